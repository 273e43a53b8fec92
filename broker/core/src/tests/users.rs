//! `local_users = "system"`: a submission waits until the system has said which of its recipients are users of this host.

use sundown_protocol::reply::Reply;
use sundown_protocol::request::{Blob, Content, Folder, LogoffFlags, Request, Submit};
use sundown_protocol::{Code, Fault, FaultDetail, RequestId, UploadId};

use super::world::{Member, World, secs, transport};
use crate::ground::event::Event;
use crate::local::{LocalMail, Users};

/// A world with the users anna and bo, and a member.
fn world() -> (World, Member) {
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("here", &["localhost"]), transport("relay", &["*"])];
    world.profile("default").local = LocalMail { users: Users::System, ..LocalMail::default() };
    world.users = ["anna", "bo"].map(str::to_owned).into();
    let member = world.member(1);
    (world, member)
}

fn ask_submit(world: &mut World, member: Member, to: &[&str]) -> RequestId {
    let submit = world.submit_request(member, to);
    let id = world.ask(member.at, Request::Submit(submit));
    world.settle();
    id
}

fn go_on(world: &mut World) {
    world.hold_users = false;
    world.settle();
}

/// design §3.20: who exists gets the message; a message to somebody who does not is refused as a whole.
#[test]
fn users_are_asked_for_before_anything_is_stored() {
    let (mut world, member) = world();
    world.hold_users = true;
    let id = ask_submit(&mut world, member, &["anna", "bo@localhost", "x@y.z"]);
    assert_eq!(world.answer(member.at, id), None);
    assert_eq!(world.questions[0].1, ["anna", "bo"]);
    assert!(world.store("default").messages.is_empty());
    go_on(&mut world);
    assert!(matches!(world.answer(member.at, id), Some(Ok(Reply::Submitted { .. }))));
    for to in ["anna", "bo@localhost", "x@y.z"] {
        assert_eq!(world.wire.delivered_to(to), 1, "{to}");
    }

    let stored = world.store("default").messages.len();
    let error = world.try_submit(member, &["anna", "Doe", "x@y.z"]).expect_err("nobody");
    assert_eq!(error.code, Code::E_INVALID_PARAMETER);
    assert_eq!(error.detail, FaultDetail::Addresses(vec!["Doe".into()]));
    assert!(error.message.contains("nothing was stored"), "{}", error.message);
    assert_eq!(world.store("default").messages.len(), stored);
    world.try_submit(member, &["x@y.z"]).expect("no user is in question");
    world.everybody_leaves();
}

/// No answer of the system is no answer about a user: the message may be submitted again.
#[test]
fn a_system_that_does_not_say_refuses_for_now() {
    let (mut world, member) = world();
    world.hold_users = true;
    let id = ask_submit(&mut world, member, &["anna"]);
    let (question, _) = world.questions.pop_front().expect("it asks");
    let result = Err(Fault::new(Code::E_BUSY, "no answer"));
    world.apply(Event::UsersFound { question, result });
    let answer = world.answer(member.at, id).expect("answered").expect_err("refused");
    assert_eq!(answer.code, Code::E_BUSY);
    // An answer that leaves a name out, and one to no question.
    let id = ask_submit(&mut world, member, &["anna"]);
    let (question, _) = world.questions.pop_front().expect("it asks");
    for _ in 0..2 {
        let result = Ok(std::collections::BTreeMap::new());
        world.apply(Event::UsersFound { question, result });
    }
    let answer = world.answer(member.at, id).expect("answered").expect_err("refused");
    assert_eq!(answer.code, Code::E_BUSY);
    assert!(world.store("default").messages.is_empty());
    world.settle();
    world.everybody_leaves();
}

/// A deferred submit is not accepted before it is known that it will be stored; a flush and a logoff behind it wait for it.
#[test]
fn what_waits_for_an_answer_is_unwritten() {
    let (mut world, member) = world();
    world.hold_users = true;
    let mut submit = world.submit_request(member, &["anna"]);
    submit.when = sundown_protocol::request::Durability::Deferred;
    let id = world.ask(member.at, Request::Submit(submit));
    let flush = world.ask(member.at, Request::Flush { member: member.id });
    let logoff = world.ask_logoff(member, LogoffFlags::default(), Some(secs(60)));
    world.settle();
    for id in [id, flush, logoff] {
        assert_eq!(world.answer(member.at, id), None);
    }
    go_on(&mut world);
    for id in [id, flush, logoff] {
        assert!(world.answer(member.at, id).is_some_and(|answer| answer.is_ok()));
    }
    assert_eq!(world.wire.delivered_to("anna"), 1);
    world.everybody_leaves();
}

/// What a client sent before it went is carried out.
#[test]
fn a_client_that_goes_leaves_its_submission() {
    let (mut world, member) = world();
    world.hold_users = true;
    ask_submit(&mut world, member, &["anna"]);
    world.disconnect(member.at);
    world.settle();
    go_on(&mut world);
    assert_eq!(world.wire.delivered_to("anna"), 1);
    world.everybody_leaves();
}

/// What was uploaded for a message that is refused is discarded.
#[test]
fn an_upload_for_nobody_is_discarded() {
    let (mut world, member) = world();
    let piece = |n| Request::Upload {
        member: member.id,
        store: 0,
        upload: UploadId(n),
        bytes: Blob(b"body".to_vec()),
    };
    world.done(member.at, piece(1));
    let submit = world.submit_request(member, &["Doe"]);
    let submit = Submit { content: Content::Uploaded(UploadId(1)), ..submit };
    assert_eq!(world.refused(member.at, Request::Submit(submit)), Code::E_INVALID_PARAMETER);
    assert!(world.store("default").uploads.is_empty());
    world.everybody_leaves();
}

/// A session that closes does not wait for the system; what it was asked for is not stored.
#[test]
fn a_store_that_was_closed_gets_nothing() {
    let (mut world, member) = world();
    let linger = crate::settings::Linger::Off;
    let shutdown = crate::settings::Shutdown { linger, ..world.broker.settings.shutdown.clone() };
    world.broker.settings.shutdown = shutdown;
    world.hold_users = true;
    ask_submit(&mut world, member, &["anna"]);
    world.disconnect(member.at);
    world.advance(secs(600));
    go_on(&mut world);
    assert!(world.store("default").messages.is_empty());
    world.everybody_leaves();
}

/// A session that closes has logged off its store, which the broker keeps open: the message is stored all the same, and waits.
#[test]
fn a_session_that_closes_is_not_spoken_for() {
    let (mut world, owner) = world();
    let member = world.member(2);
    world.hold_users = true;
    ask_submit(&mut world, member, &["anna"]);
    world.silence("store", "Logoff");
    world.ask_logoff(owner, LogoffFlags::SHARED, None);
    while !world.calls_of("store").contains(&"Logoff") {
        world.advance(secs(1));
    }
    go_on(&mut world);
    assert_eq!(world.in_folder("default", Folder::OUTBOX), 1);
    world.let_go("store");
    world.everybody_leaves();
}

/// Where only the session holds its store, because the broker's own logon failed, that is enough for it.
#[test]
fn a_store_that_only_the_session_holds_takes_it() {
    let mut world = World::new();
    world.profile("default").local = LocalMail { users: Users::System, ..LocalMail::default() };
    world.users = ["anna"].map(str::to_owned).into();
    let member = super::stores::only_a_session_holds_it(&mut world);
    world.try_submit(member, &["anna"]).expect("it is stored");
    assert_eq!(world.wire.delivered_to("anna"), 1);
}
