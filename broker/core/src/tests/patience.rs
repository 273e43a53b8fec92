//! Providers that do not answer: who waits for them, for how long, and what becomes of what they have.

use sundown_protocol::folder::{Filter, Flags, Marks, Sort};
use sundown_protocol::reply::{Reply, Resource, SubmissionState};
use sundown_protocol::request::{
    AddressAction, Blob, Content, Folder, LogoffFlags, LogonFlags, Opening, QueueAction,
    QueueChange, ReadSource, Request, SettingChange,
};
use sundown_protocol::{Code, EntryId, MemberId, ObjectId, SubmitKey};

use super::fakes::Step;
use super::world::{Member, World, millis, secs};
use crate::provider::Outcome;
use crate::provider::ProviderAnswer;
use crate::provider::ProviderCall;
use crate::provider::ProviderError;
use crate::provider::RecipientResult;
use crate::provider::TransportFacts;
use crate::providers::lanes::PLACES;

/// How long a request waits, and when it is looked at the next time.
const ASKED: u64 = 66;

fn status_of(world: &mut World, provider: &str) -> String {
    let status = world.status();
    let mut providers = status.sessions.iter().flat_map(|s| &s.providers);
    providers.find(|p| p.name == provider).expect("it is there").status.clone()
}

fn contents(member: MemberId, object: ObjectId) -> Request {
    let (sort, only, after, limit) = (Sort::NEWEST, Filter::default(), None, 10);
    Request::Contents { member, object, sort, only, after, limit }
}

/// Everything that a program may ask of a store or an address book, and whether that changes something.
fn requests(member: Member, entry: EntryId, world: &mut World) -> Vec<(Request, bool)> {
    let id = member.id;
    let draft = world.draft(member, "text");
    let submit = world.submit_request(member, &["b@x"]);
    let folder = world.open(member, Opening::Folder(0, Folder::SENT));
    let addresses = world.open(member, Opening::AddressBook);
    let page = |object| Request::List { member: id, object, after: 0, limit: 10 };
    let set = SettingChange::Set("value".into());
    let setting = |change| Request::Setting {
        member: id,
        section: "section".into(),
        name: "name".into(),
        change,
    };
    let book = |action| Request::AddressBook { member: id, object: addresses, action };
    let queue = |action| Request::Queue { profile: None, action };
    let list = QueueAction::List { all: true, after: 0, limit: 10 };
    let (name, to) = ("Anna".to_owned(), vec!["anna@x".to_owned()]);
    let (flags, none) = (Flags { marks: Marks::READ, keywords: Vec::new() }, Flags::default());
    let (words, other) = ("hello".to_owned(), Folder(16));
    let search = Request::Search { member: id, store: 0, words, folder: None, after: 0, limit: 10 };
    let append = Request::Append {
        member: id,
        key: SubmitKey(79),
        store: 0,
        folder: Folder::INBOX,
        content: Content::Inline(Blob(b"text".to_vec())),
        flags: Box::new(flags.clone()),
        received: None,
    };
    vec![
        (page(folder), false),
        (page(addresses), false),
        (Request::Read { member: id, source: ReadSource::Entry(entry), offset: 0 }, false),
        (Request::Open { member: id, what: Opening::Message(entry) }, false),
        (setting(SettingChange::Keep), false),
        (setting(set), true),
        (setting(SettingChange::Remove), true),
        (Request::Submit(submit), true),
        (Request::Save { member: id, object: draft, key: SubmitKey(77) }, true),
        (Request::Delete { member: id, entry }, true),
        (Request::DeleteFrom { member: id, entry, from: Folder::SENT }, true),
        (Request::Folders { member: id, store: 0, after: None, limit: 10 }, false),
        (Request::Open { member: id, what: Opening::Folder(0, Folder(16)) }, false),
        (contents(id, folder), false),
        (search, false),
        (Request::MakeFolder { member: id, store: 0, parent: None, name: "work".into() }, true),
        (Request::RenameFolder { member: id, store: 0, folder: other, name: "play".into() }, true),
        (Request::RemoveFolder { member: id, store: 0, folder: other }, true),
        (
            Request::SetFlags {
                member: id,
                entry,
                add: Box::new(flags.clone()),
                remove: Box::new(none),
            },
            true,
        ),
        (Request::Move { member: id, entry, to: Folder::INBOX }, true),
        (Request::Copy { member: id, key: SubmitKey(78), entry, to: Folder::INBOX }, true),
        (append, true),
        (book(AddressAction::Resolve { name: name.clone() }), false),
        (book(AddressAction::Add { name: name.clone(), addresses: to }), true),
        (book(AddressAction::Remove { name }), true),
        (queue(list), false),
        (queue(QueueAction::Show(entry)), false),
        (queue(QueueAction::Flush), true),
        (Request::AbortSubmit { member: id, entry }, false),
    ]
}

/// A request is not kept waiting for a provider that does not answer. It is told whether something may have been done; it counts
/// until the provider answers, and is answered once.
#[test]
fn nothing_is_asked_without_an_end() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    for (request, changes) in requests(member, entry, &mut world) {
        world.hold("store", "*");
        world.hold("people", "*");
        let asked = world.ask(member.at, request.clone());
        world.advance(secs(59));
        assert_eq!(world.answer(member.at, asked), None, "{request:?} waits");
        world.advance(secs(ASKED - 59));
        let fault =
            world.answer(member.at, asked).expect("told").expect_err("nothing was answered");
        assert_eq!(fault.code, Code::E_TIMEOUT, "{request:?}: {}", fault.message);
        let not_known = fault.message.contains("not known");
        assert_eq!(not_known, changes, "{request:?}: {}", fault.message);
        assert!(world.broker.awaits_providers(), "{request:?} is still with its provider");
        world.advance(secs(100));
        world.clear_holds();
        world.settle();
        assert_eq!(world.answer(member.at, asked), None, "{request:?} is answered once");
        world.assert_counts();
    }
    assert!(world.hanging.contains(&("store".to_owned(), "SubmitMessage")), "{:?}", world.hanging);
}

/// What a program was told nothing of is done all the same, and its key says so.
#[test]
fn what_was_given_up_is_done_later() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    let submit = world.submit_request(member, &["b@x"]);
    let asked = world.ask(member.at, Request::Submit(submit.clone()));
    world.advance(secs(ASKED));
    let told = world.answer(member.at, asked).expect("told");
    assert_eq!(told.map_err(|fault| fault.code), Err(Code::E_TIMEOUT));
    assert!(status_of(&mut world, "store").contains("SubmitMessage"));
    world.let_go("store");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    let Ok(Reply::Submitted { .. }) = world.call(member.at, Request::Submit(submit)) else {
        panic!("its key is known");
    };
    assert_eq!(world.wire.delivered_to("b@x"), 1, "sent once");
    assert_eq!(status_of(&mut world, "store"), "available");
}

/// An object whose opener was told that the store did not answer is not open when the store has answered.
#[test]
fn an_object_that_nobody_was_told_of_is_not_open() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    let objects = |world: &World| world.broker.sessions.members[&member.id].objects.len();
    let before = objects(&world);
    world.hold("store", "OpenEntry");
    world.ask(member.at, Request::Open { member: member.id, what: Opening::Message(entry) });
    world.advance(secs(ASKED));
    world.let_go("store");
    assert_eq!(objects(&world), before);
}

/// A change of the queue that was only looked up when its asker was told nothing is not made.
#[test]
fn a_change_that_was_given_up_is_not_begun() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.hold("store", "QueryQueue");
    let action = QueueAction::Change(entry, QueueChange::Hold);
    world.ask(member.at, Request::Queue { profile: None, action });
    world.advance(secs(ASKED));
    world.let_go("store");
    assert_ne!(world.state(entry), SubmissionState::Held);
    world.advance(secs(3_600));
    assert_eq!(world.state(entry), SubmissionState::Sent, "it is not locked either");
}

fn question(member: Member) -> Request {
    Request::Setting {
        member: member.id,
        section: "section".into(),
        name: "name".into(),
        change: SettingChange::Keep,
    }
}

/// Questions that no worker has begun go with the process that asked them; what changes something is done.
#[test]
fn questions_of_those_who_are_gone_are_not_asked() {
    let mut world = World::new();
    let member = world.member(1);
    let other = world.member(2);
    world.hold("store", "*");
    (0..PLACES).for_each(|_| {
        world.ask(other.at, question(other));
    });
    (0..8).for_each(|_| {
        world.ask(member.at, question(member));
    });
    let submit = world.submit_request(member, &["b@x"]);
    world.ask(member.at, Request::Submit(submit));
    let calls = world.broker.providers.calls().count();
    world.disconnect(member.at);
    assert_eq!(world.broker.providers.calls().count(), calls - 8);
    world.clear_holds();
    world.settle();
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.assert_counts();
}

/// A question that waits behind others for a worker that hangs is not asked any more when its time is over.
#[test]
fn a_question_that_was_not_begun_never_is() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.hold("store", "*");
    (0..PLACES).for_each(|_| {
        world.ask(other.at, question(other));
    });
    let asked = world.ask(member.at, question(member));
    world.advance(secs(ASKED));
    let told = world.answer(member.at, asked).expect("told");
    assert_eq!(told.map_err(|fault| fault.code), Err(Code::E_TIMEOUT));
    assert_eq!(
        world.broker.providers.calls().count(),
        PLACES,
        "the worker has those, and no others"
    );
    world.clear_holds();
    world.settle();
    world.assert_counts();
}

/// A transport that hangs while it prepares is left behind, and its messages are tried again by another worker.
#[test]
fn a_transport_that_hangs_gets_another_worker() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entries: Vec<_> = (0..70).map(|_| world.submit(member, "b@x")).collect();
    world.advance(secs(3_500));
    assert_eq!(world.waiting_calls("relay"), 64);
    world.advance(secs(110));
    world.let_go("relay");
    world.advance(secs(3_600));
    for entry in entries {
        assert_eq!(world.state(entry), SubmissionState::Sent);
    }
    assert_eq!(world.wire.delivered_to("b@x"), 70);
}

/// A transport says how long it may take, and a long message takes longer.
#[test]
fn a_transport_says_how_long_it_may_take() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { longest: secs(100), ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    world.submit(member, "b@x");
    world.advance(secs(99));
    assert!(world.hanging.is_empty());
    world.advance(secs(10));
    assert_eq!(world.hanging, [("relay".to_owned(), "SubmitMessage")]);
}

/// What was being handed over is found out by the next worker: here that the other side has it.
#[test]
fn what_was_handed_over_is_found_out() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.wire.recover = Some(Outcome::Sent);
    world.advance(secs(3_700));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.calls_of("relay").iter().filter(|c| **c == "Recover").count(), 1);
}

fn change_queue(world: &mut World, member: Member, action: QueueAction) {
    world.call(member.at, Request::Queue { profile: None, action }).expect("it is changed");
}

fn results(outcome: Outcome) -> impl Fn(&ProviderCall) -> Result<ProviderAnswer, ProviderError> {
    move |call| {
        assert_eq!(call.name(), "EndMessage");
        Ok(ProviderAnswer::Results(vec![RecipientResult {
            recipient: 0,
            outcome,
            reply: "late".into(),
        }]))
    }
}

/// It is not known to the next worker what became of it. The old one says so after all.
#[test]
fn a_late_answer_is_the_truth() {
    for (outcome, state) in [
        (Outcome::Sent, SubmissionState::Sent),
        (Outcome::Failed, SubmissionState::Bounced),
        (Outcome::Later, SubmissionState::Deferred),
        (Outcome::Unknown, SubmissionState::Unknown),
    ] {
        let mut world = World::new();
        let member = world.member(1);
        world.hold("relay", "EndMessage");
        let entry = world.submit(member, "b@x");
        world.wire.recover = Some(Outcome::Unknown);
        world.advance(secs(3_700));
        assert_eq!(world.state(entry), SubmissionState::Unknown);
        world.clear_holds();
        world.answers_late("relay", results(outcome));
        assert_eq!(world.state(entry), state, "{outcome:?}");
        assert_eq!(world.submission(entry).attempts, 1, "one try, whatever it took to know of it");
        world.assert_counts();
    }
}

/// A late answer to an attempt says nothing of another one, nor of a message that was given up.
#[test]
fn a_late_answer_is_of_its_attempt_alone() {
    for change in [QueueChange::Abort, QueueChange::Retry] {
        let mut world = World::new();
        let member = world.member(1);
        world.hold("relay", "EndMessage");
        let entry = world.submit(member, "b@x");
        world.wire.recover = Some(Outcome::Unknown);
        world.advance(secs(3_700));
        world.script("b@x", &[Step::SentButUnknown]);
        world.clear_holds();
        let action = QueueAction::Change(entry, change);
        change_queue(&mut world, member, action);
        let state = world.state(entry);
        world.answers_late("relay", results(Outcome::Failed));
        assert_eq!(world.state(entry), state, "{change:?}");
    }
}

/// A message that something else is done with is corrected when that is over.
#[test]
fn a_late_answer_waits_for_what_is_under_way() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.wire.recover = Some(Outcome::Unknown);
    world.hold("relay", "Recover");
    world.advance(secs(3_700));
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.answers_late("relay", results(Outcome::Sent));
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.clear_holds();
    world.settle();
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// A transport of a session that closes is left behind, too: what it says late is the truth for the next session.
#[test]
fn a_late_answer_to_a_session_that_is_over_counts() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.wire.recover = Some(Outcome::Unknown);
    world.ask_logoff(member, LogoffFlags::SHARED, None);
    world.advance(secs(60));
    world.clear_holds();
    let member = world.member(2);
    assert_eq!(world.state(entry), SubmissionState::Unknown);
    world.answers_late("relay", results(Outcome::Sent));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.logoff(member);
}

/// A worker that hangs keeps its thread. A provider that hangs again and again is out until one of them has ended.
#[test]
fn a_provider_hangs_so_often() {
    let mut world = World::new();
    world.profile("default").queue.max_age = secs(1_000_000);
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    for _ in 0..5 {
        world.advance(secs(7_400));
    }
    let hung = world.hanging.len();
    assert!(hung == 3, "{:?}", world.hanging);
    let status = status_of(&mut world, "relay");
    assert!(status.contains("3 of its workers hang"), "{status}");
    // Not even a flush makes more of them.
    change_queue(&mut world, member, QueueAction::Flush);
    world.advance(secs(7_400));
    assert_eq!(world.hanging.len(), hung);
    world.clear_holds();
    let never = |_: &ProviderCall| Err(ProviderError::new(Code::E_CALL_FAILED, "it ended"));
    world.answers_late("relay", never);
    assert!(status_of(&mut world, "relay").starts_with("failing: "), "it is there again");
    world.advance(secs(7_200));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(status_of(&mut world, "relay"), "available");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// An address book that hangs with a question gets another worker.
#[test]
fn an_address_book_that_hangs_gets_another_worker() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("people", "ResolveName");
    let object = world.open(member, Opening::AddressBook);
    let resolve = || Request::AddressBook {
        member: member.id,
        object,
        action: AddressAction::Resolve { name: "Anna".into() },
    };
    world.ask(member.at, resolve());
    world.advance(secs(310));
    world.let_go("people");
    let fault = world.call(member.at, resolve()).expect_err("it is not there");
    assert_eq!(fault.code, Code::E_NOT_FOUND, "{}", fault.message);
    assert_eq!(world.calls_of("people").iter().filter(|c| **c == "Logon").count(), 2);
}

/// While a store does not answer, the transport has its place for messages of others, and the message is neither handed over nor
/// cancelled. When the store has answered it is tried again.
#[test]
fn an_intent_that_is_not_stored_holds_no_place() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { window: 1, ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("store", "UpdateSubmission");
    let entry = world.submit(member, "b@x");
    let in_flight = |world: &World| {
        let session = world.broker.sessions.all.values().next().expect("it is there");
        session.providers.iter().map(|p| p.in_flight).sum::<usize>()
    };
    assert_eq!(in_flight(&world), 1);
    world.advance(secs(ASKED));
    assert_eq!(in_flight(&world), 0);
    let of = |world: &World, call| world.calls_of("relay").iter().filter(|c| **c == call).count();
    assert_eq!((of(&world, "EndMessage"), of(&world, "TransportNotify")), (0, 0));
    world.let_go("store");
    assert_eq!((of(&world, "EndMessage"), of(&world, "TransportNotify")), (0, 1));
    world.advance(secs(120));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.assert_counts();
}

/// The same where the transport has been logged off by then: it is called no more, and the message stays in the queue.
#[test]
fn an_intent_that_is_stored_behind_the_logoff_is_nobodys() {
    let mut world = World::new();
    let linger = crate::settings::Linger::Off;
    let shutdown = crate::settings::Shutdown { linger, ..world.broker.settings.shutdown.clone() };
    world.broker.settings.shutdown = shutdown;
    let member = world.member(1);
    world.hold("store", "UpdateSubmission");
    let entry = world.submit(member, "b@x");
    world.advance(secs(ASKED));
    world.disconnect(member.at);
    world.settle();
    assert_eq!(world.calls_of("relay").last(), Some(&"Logoff"));
    world.let_go("store");
    assert_eq!(world.calls_of("relay").last(), Some(&"Logoff"));
    world.member(2);
    world.advance(secs(120));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.assert_counts();
}

/// `ValidateState` of a transport that says nothing ends, and the transport may be asked again.
#[test]
fn a_transport_that_is_asked_whether_it_works_may_say_nothing() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "ValidateState");
    let validate = || Request::ValidateState {
        member: member.id,
        kind: Resource::TransportProvider,
        provider: "relay".into(),
    };
    let asked = world.ask(member.at, validate());
    world.advance(secs(ASKED));
    let told = world.answer(member.at, asked).expect("told");
    assert_eq!(told.map_err(|fault| fault.code), Err(Code::E_TIMEOUT));
    world.let_go("relay");
    world.done(member.at, validate());
}

/// Where so many workers hang no session starts that would have more.
#[test]
fn so_many_workers_may_hang() {
    let mut world = World::new();
    world.hold("relay", "Logoff");
    let mut refused = None;
    for pid in 1..300 {
        let at = world.connect(pid);
        match world.try_logon(at, None, LogonFlags::default()) {
            Ok(on) => {
                world.logoff(Member { at, id: on.member, session: on.session });
                world.advance(secs(11) + millis(1));
            }
            Err(fault) => {
                refused = Some(fault);
                break;
            }
        }
        world.disconnect(at);
    }
    let fault = refused.expect("there is an end");
    assert_eq!(fault.code, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(fault.message.contains("workers"), "{}", fault.message);
    world.answers_late("relay", |_| Ok(ProviderAnswer::Done));
    world.clear_holds();
    world.member(400);
}

/// What one worker has prepared the next one does not know: it is tried again as a whole.
#[test]
fn what_is_prepared_is_of_its_worker() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { longest: secs(30), ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    world.submit(member, "a@x");
    // The first is prepared, and the transport does nothing else until that one is handed over.
    world.hold("store", "UpdateSubmission");
    world.crew = 1;
    world.let_go("relay");
    world.advance(secs(36));
    assert_eq!(world.hanging, [("relay".to_owned(), "SubmitMessage")]);
    world.clear_holds();
    world.settle();
    world.advance(secs(120));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.assert_counts();
}
