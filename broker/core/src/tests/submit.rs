//! Submissions: what is taken, what is refused, what an answer means, and how one is taken back.

use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{
    Blob, Content, Durability, Folder, LogoffFlags, LogonFlags, Opening, QueueAction, Request,
    Route, Submit,
};
use sundown_protocol::{Code, EntryId, Event as News, Events, Fault, FaultDetail, UploadId};

use super::fakes::Step;
use super::world::{Member, World, entries_of, secs, settings, transport};
use crate::address::Pattern;
use crate::local::{LocalMail, Target};
use crate::provider::Outcome;
use crate::settings::Right;
use crate::settings::Settings;
use crate::settings::{Limits, TransportSpec};

fn abort(world: &mut World, member: Member, entry: sundown_protocol::EntryId) -> Result<(), Code> {
    let request = Request::AbortSubmit { member: member.id, entry };
    world.call(member.at, request).map(|_| ()).map_err(|fault| fault.code)
}

/// A submit that says whose message it is, and by which transport it goes.
fn submit_via(
    world: &mut World,
    member: Member,
    (from, author, account): (&str, Option<&str>, Option<&str>),
    to: &str,
) -> Result<EntryId, Fault> {
    let submit = Submit { from: Some(from.into()), ..world.submit_request(member, &[to]) };
    let submit = Box::new(submit);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let route = Box::new(Route { author: owned(author), account: owned(account) });
    match world.call(member.at, Request::SubmitVia { submit, route })? {
        Reply::Submitted { entry, .. } => Ok(entry),
        other => panic!("{other:?}"),
    }
}

/// A message's author, or the account that it names, chooses the transport, also after a crash, and in any order of the transports.
/// design §3.20
#[test]
fn the_author_chooses_the_transport() {
    let work = TransportSpec {
        senders: vec![Pattern::parse("*@work.lan").expect("a pattern")],
        ..transport("work", &["*"])
    };
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("rest", &["*"]), transport("local", &["localhost"]), work];
    let member = world.member(1);
    let cases = [
        (("a@work.lan", None, None), "b@far.lan", "work"),
        (("a@home.lan", None, None), "b@far.lan", "rest"),
        (("bounces@home.lan", Some("a@WORK.lan"), None), "b@far.lan", "work"),
        (("a@work.lan", Some("a@home.lan"), None), "b@far.lan", "rest"),
        (("a@work.lan", Some("no address"), None), "b@far.lan", "work"),
        (("", None, None), "b@far.lan", "rest"),
        (("a@home.lan", None, Some("work")), "b@far.lan", "work"),
        (("a@work.lan", None, Some("rest")), "b@far.lan", "rest"),
        (("a@home.lan", None, Some("local")), "b@localhost", "local"),
    ];
    world.script("b@far.lan", &[Step::Says(Outcome::Later); 8]);
    world.script("b@localhost", &[Step::Says(Outcome::Later)]);
    let entries = cases.map(|(who, to, _)| submit_via(&mut world, member, who, to).expect("taken"));
    let mut refused = |account, to| {
        let who = ("a@b.c", None, Some(account));
        submit_via(&mut world, member, who, to).expect_err("refused").message
    };
    assert!(refused("none", "b@far.lan").contains("Its transports: rest, local, work"));
    assert!(
        refused("local", "b@far.lan")
            .contains("\"local\" of profile \"default\" does not take b@far.lan")
    );
    world.crash();
    world.profile("default").transports.reverse();
    world.member(2);
    world.advance(secs(3_600));
    for (entry, case) in entries.into_iter().zip(cases) {
        let mut delivered =
            world.wire.delivered.iter().filter(|(_, record, _)| *record == entry.record);
        let by = delivered.next().map(|(transport, ..)| transport.as_str());
        assert_eq!((by, delivered.count()), (Some(case.2), 0), "{case:?}");
    }
}

/// A message that names a transport waits while the profile has none of that name, says so, and goes by no other one.
/// design §3.20
#[test]
fn a_named_transport_that_is_gone_is_waited_for() {
    let mut world = World::new();
    let (rest, work) = (transport("rest", &["*"]), transport("work", &["*"]));
    world.profile("default").transports = vec![rest.clone(), work.clone()];
    let member = world.member(1);
    world.script("b@far.lan", &[Step::Says(Outcome::Later)]);
    let who = ("a@home.lan", None, Some("work"));
    let named = submit_via(&mut world, member, who, "b@far.lan").expect("taken");
    let to_all = world.submit(member, "c@far.lan");
    world.crash();
    world.profile("default").transports = vec![rest.clone()];
    world.member(2);
    world.advance(secs(3_600));
    assert_eq!(world.state(to_all), SubmissionState::Sent, "it names none");
    assert_eq!(world.state(named), SubmissionState::Deferred);
    let told = world.submission(named).recipients[0].reply.clone().unwrap_or_default();
    assert!(
        told.ends_with(
            "no transport \"work\", which the message names, of profile \"default\" takes b@far.lan any more; \
             add one to the profile, or abort the message"
        ),
        "{told}"
    );
    assert_eq!(world.wire.delivered_to("b@far.lan"), 0, "by no other one");
    world.crash();
    world.profile("default").transports = vec![rest, work];
    world.member(3);
    world.advance(secs(3_600));
    assert_eq!(world.state(named), SubmissionState::Sent);
    let by = world.wire.delivered.iter().filter(|(_, record, _)| *record == named.record);
    assert_eq!(by.map(|(transport, ..)| transport.as_str()).collect::<Vec<_>>(), ["work"]);
    // One that takes no such address any more is gone for it.
    world.script("d@far.lan", &[Step::Says(Outcome::Later)]);
    let member = world.member(4);
    let plain = world.submit(member, "d@far.lan");
    world.crash();
    world.profile("default").transports = vec![transport("rest", &["localhost"])];
    world.member(5);
    world.advance(secs(3_600));
    let told = world.submission(plain).recipients[0].reply.clone().unwrap_or_default();
    assert!(
        told.contains("no transport of profile \"default\" takes d@far.lan any more"),
        "{told}"
    );
}

/// Where every transport is for some senders, a message of another author is refused, and told what helps. design §3.20
#[test]
fn an_author_of_no_transport_is_refused() {
    let mut world = World::new();
    let for_work = Pattern::parse("*@work.lan").expect("a pattern");
    world.profile("default").transports[0].senders = vec![for_work];
    let member = world.member(1);
    let refused = submit_via(&mut world, member, ("a@home.lan", None, None), "b@far.lan");
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code, Code::E_UNCONFIGURED);
    for words in ["b@far.lan from a@home.lan", "nothing was stored", "`senders`", "--account"] {
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    assert!(world.store("default").messages.is_empty());
}

/// design §3.20: what cannot be sent is refused as a whole, and nothing is stored.
#[test]
fn what_cannot_be_sent_is_refused_as_a_whole() {
    let limits = Limits { recipients: 3, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    world.profile("default").transports = vec![transport("here", &["localhost", "*.lan"])];
    let member = world.member(1);
    let mut refused = |to: &[&str]| world.try_submit(member, to).expect_err("refused");
    assert_eq!(refused(&[]).code, Code::E_NO_RECIPIENTS);
    assert_eq!(refused(&["a@1", "a@2", "a@3", "a@4"]).code, Code::E_TOO_BIG);
    let bad = refused(&["a b@x.lan", "c@x.lan", "@"]);
    assert_eq!(bad.code, Code::E_INVALID_PARAMETER);
    assert_eq!(bad.detail, FaultDetail::Addresses(vec!["a b@x.lan".into(), "@".into()]));
    let lost = refused(&["a@x.lan", "b@example.org", "c@localhost"]);
    assert_eq!(lost.code, Code::E_UNCONFIGURED);
    assert_eq!(lost.detail, FaultDetail::Addresses(vec!["b@example.org".into()]));
    assert!(world.store("default").messages.is_empty());
    assert!(!world.calls_of("store").contains(&"SubmitMessage"));
    world.try_submit(member, &["a@x.lan", "a@x.lan", "a@x.lan", "a@x.lan"]).expect("one address");
    assert_eq!(world.wire.delivered_to("a@x.lan"), 1);
}

/// design §3.20: recipients of this host are replaced by what their aliases stand for, each once, and these are what is looked at.
#[test]
fn aliases_are_recipients() {
    let address = |a: &str| Target::Address(a.to_owned());
    let targets = |all: &[&str]| all.iter().map(|a| address(a)).collect::<Vec<_>>();
    let mut local = LocalMail { host: "vm.lan".into(), ..LocalMail::default() };
    local.domain = Some("example.org".into());
    local.aliases.insert("root".into(), targets(&["a@x.org", "b@x.org", "ops"]));
    local.aliases.insert("ops".into(), targets(&["a@x.org"]));
    local.aliases.insert("all".into(), targets(&["root", "c@x.org", "d@x.org"]));
    local.aliases.insert("us".into(), targets(&["them"]));
    local.aliases.insert("them".into(), targets(&["us"]));
    local.aliases.insert("bot".into(), vec![Target::Unsupported("|/bin/bot".into())]);
    let limits = Limits { recipients: 3, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    world.profile("default").transports = vec![transport("there", &["*.org", "*@x.org"])];
    world.profile("default").local = local;
    let member = world.member(1);

    let entry = world.try_submit(member, &["ROOT@vm", "a@x.org"]).expect("it is taken");
    let to = |world: &World, entry| -> Vec<String> {
        world.submission(entry).recipients.iter().map(|r| r.address.clone()).collect()
    };
    assert_eq!(to(&world, entry), ["a@x.org", "b@x.org"]);
    let entry = world.try_submit(member, &["cron"]).expect("it is taken");
    assert_eq!(to(&world, entry), ["cron@example.org"]);

    let stored = world.store("default").messages.len();
    let mut refused = |to: &[&str]| world.try_submit(member, to).expect_err("refused");
    assert_eq!(refused(&["all"]).code, Code::E_TOO_BIG, "what aliases stand for counts");
    let circle = refused(&["e@x.org", "us"]);
    assert_eq!(circle.code, Code::E_INVALID_PARAMETER);
    assert!(circle.message.contains("us -> them -> us"), "{}", circle.message);
    let bot = refused(&["bot"]);
    assert_eq!(bot.code, Code::E_INVALID_PARAMETER);
    assert!(bot.message.contains("|/bin/bot"), "{}", bot.message);
    assert_eq!(world.store("default").messages.len(), stored);
}

/// design §3.16: a submit is answered after the commit that holds it.
#[test]
fn acknowledged_means_durable() {
    let mut world = World::new();
    let member = world.member(1);
    world.silence("store", "SubmitMessage");
    let submit = world.submit_request(member, &["b@x"]);
    let id = world.ask(member.at, Request::Submit(submit));
    world.settle();
    assert_eq!(world.answer(member.at, id), None);
    world.let_go("store");
    let answer = world.answer(member.at, id);
    assert!(matches!(answer, Some(Ok(Reply::Submitted { state: SubmissionState::Queued, .. }))));
}

/// design §3.16: a repeated key is the first entry; it makes no second message and is sent once.
#[test]
fn a_repeated_key_is_the_first_entry() {
    let mut world = World::new();
    let (a, b) = (world.member(1), world.member(2));
    world.hold("relay", "SubmitMessage");
    let submit = world.submit_request(a, &["b@x"]);
    let first = world.call(a.at, Request::Submit(submit.clone()));
    let again = world.call(a.at, Request::Submit(submit.clone()));
    let other = world.call(b.at, Request::Submit(Submit { member: b.id, ..submit.clone() }));
    assert!(first.is_ok() && first == again && first == other);
    let drain = [a, b].map(|m| (m, world.ask_logoff(m, LogoffFlags::default(), Some(secs(60)))));
    world.let_go("relay");
    for (member, id) in drain {
        let answer = world.answer(member.at, id).expect("both waited for it").expect("logged off");
        assert_eq!(super::world::logged_off(answer).queued, 0);
    }
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    let c = world.member(3);
    let Ok(Reply::Submitted { state, .. }) =
        world.call(c.at, Request::Submit(Submit { member: c.id, ..submit }))
    else {
        panic!("a repeat succeeds")
    };
    assert_eq!(state, SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// design §3.16: a deferred submission is answered on acceptance; the member is told when it is durable.
#[test]
fn a_deferred_submission_is_answered_at_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    let entry = world.submit_deferred(member, "b@x");
    assert!(world.store("default").submissions.is_empty());
    let status = world.status();
    assert_eq!(status.queue[SubmissionState::Accepted as usize], 1);
    world.let_go("store");
    assert_eq!(world.news(member), [News::Durable(vec![entry])]);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    let status = world.status();
    assert_eq!(status.queue[SubmissionState::Accepted as usize], 0);
    assert_eq!(status.queue[SubmissionState::Sent as usize], 1);
}

/// design §3.16: flush is answered when everything before it is durable, and says what was lost, once.
#[test]
fn flush_waits_and_says_what_was_lost() {
    let mut world = World::new();
    let member = world.member(1);
    world.done(member.at, Request::Flush { member: member.id });
    world.hold("store", "SubmitMessage");
    world.store("default").failures.insert("SubmitMessage", [Code::E_DISK_ERROR].into());
    let lost = world.submit_deferred(member, "a@x");
    world.submit_deferred(member, "b@x");
    let id = world.ask(member.at, Request::Flush { member: member.id });
    world.settle();
    assert_eq!(world.answer(member.at, id), None);
    world.let_go("store");
    let fault = world.answer(member.at, id).expect("answered").expect_err("something was lost");
    assert_eq!((fault.code, entries_of(&fault)), (Code::E_DISK_ERROR, vec![lost]));
    assert!(world.calls_of("store").contains(&"Flush"), "the store is told to hurry");
    world.done(member.at, Request::Flush { member: member.id });
}

/// design §8 *quotas*: what waits in memory for a process is limited; beyond it a submit is answered when durable.
#[test]
fn deferred_bytes_are_limited() {
    let limits = Limits { request_bytes: 1_000, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    let other = world.connect(1);
    world.hold("store", "SubmitMessage");
    let mut ids = Vec::new();
    for at in [member.at, other, member.at] {
        let submit = world.submit_request(member, &["b@x"]);
        let request = Request::Submit(Submit { when: Durability::Deferred, ..submit });
        if at == member.at {
            ids.push(world.ask_with(at, request, 600));
        }
    }
    assert!(matches!(world.answer(member.at, ids[0]), Some(Ok(_))));
    assert_eq!(world.answer(member.at, ids[1]), None);
    world.let_go("store");
    assert!(matches!(
        world.answer(member.at, ids[1]),
        Some(Ok(Reply::Submitted { state: SubmissionState::Queued, .. }))
    ));
}

/// QUEUE-9: `AbortSubmit` takes back what is queued, not what is locked, and not what is gone.
#[test]
fn abort_has_three_answers() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    assert_eq!(abort(&mut world, member, entry), Err(Code::E_UNABLE_TO_ABORT));
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert_eq!(abort(&mut world, member, entry), Ok(()));
    assert_eq!(world.state(entry), SubmissionState::Aborted);
    assert_eq!(abort(&mut world, member, entry), Err(Code::E_NOT_IN_QUEUE));
    world.advance(secs(10_000));
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    let sent = world.submit(member, "c@x");
    assert_eq!(abort(&mut world, member, sent), Err(Code::E_NOT_IN_QUEUE));
    assert_eq!(world.status().queue[SubmissionState::Aborted as usize], 1);
    assert_eq!(world.logoff(member).queued, 0);
}

/// QUEUE-9, design §10.6: what is being taken back does not depart, and what departed is not taken back.
#[test]
fn an_abort_locks_its_message() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.hold("store", "QueryQueue");
    let id = world.ask(member.at, Request::AbortSubmit { member: member.id, entry });
    let second = world.refused(member.at, Request::AbortSubmit { member: member.id, entry });
    assert_eq!(second, Code::E_UNABLE_TO_ABORT);
    world.advance(secs(50));
    assert_eq!(world.state(entry), SubmissionState::Deferred, "it waits for the abort");
    world.let_go("store");
    assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)));
    world.advance(secs(60));
    assert_eq!(world.wire.delivered_to("b@x"), 0);
}

/// design §10.6: a failed abort changes nothing; the message goes its way.
#[test]
fn a_failed_abort_changes_nothing() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.store("default").failures.insert("UpdateSubmission", [Code::E_DISK_ERROR].into());
    assert_eq!(abort(&mut world, member, entry), Err(Code::E_DISK_ERROR));
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// design §2 *rights*: other people's entries take the right admin.
#[test]
fn other_peoples_entries_take_the_right_admin() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_002, Right::Session)];
    let mine = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(mine, "b@x");
    let (at, root) = (world.connect_as(2, 2_002), world.connect_as(3, 0));
    let (other, root) = (world.logon(at), world.logon(root));
    assert_eq!(abort(&mut world, other, entry), Err(Code::E_NO_ACCESS));
    let show = Request::Queue { profile: None, action: QueueAction::Show(entry) };
    let identify = Request::MessageId { entry };
    for request in [&show, &identify] {
        assert_eq!(world.refused(other.at, request.clone()), Code::E_NOT_IN_QUEUE);
        assert!(world.call(root.at, request.clone()).is_ok());
    }
    assert_eq!(abort(&mut world, root, entry), Ok(()));
}

/// design §8 `queue`: an entry's `Message-ID` is read from its message, and reading it is no reading of a notification.
#[test]
fn an_entry_is_known_by_its_message_id() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let mut submit = world.submit_request(member, &["b@x"]);
    submit.content = Content::Inline(Blob(b"To: b@x\r\nMessage-ID: <7@x>\r\n\r\nhello".to_vec()));
    let Ok(Reply::Submitted { entry, .. }) = world.call(member.at, Request::Submit(submit)) else {
        panic!("it is taken")
    };
    let id = world.call(member.at, Request::MessageId { entry });
    assert_eq!(id, Ok(Reply::MessageId(Some("<7@x>".into()))));
    let without = world.submit(member, "c@x");
    let id = world.call(member.at, Request::MessageId { entry: without });
    assert_eq!(id, Ok(Reply::MessageId(None)));
    for unknown in [EntryId { record: 0, ..entry }, EntryId { store: !entry.store, ..entry }] {
        let request = Request::MessageId { entry: unknown };
        assert_eq!(world.refused(member.at, request), Code::E_NOT_IN_QUEUE);
    }
}

/// design §8 `queue`: rows come in order of submission, over all stores, a page at a time; one's own only.
#[test]
fn the_queue_is_listed_in_pages() {
    let mut world = World::new();
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let at = world.connect(1);
    let (default, work) = (world.logon(at), world.logon_to(at, "work"));
    let mut entries = Vec::new();
    for n in 0..5 {
        entries.push(world.submit(default, &format!("d{n}@x")));
    }
    for n in 0..3 {
        entries.push(world.submit(work, &format!("w{n}@x")));
    }
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let action = QueueAction::List { all: false, after, limit: 2 };
        let Ok(Reply::Queue { rows, next }) =
            world.call(at, Request::Queue { profile: None, action })
        else {
            panic!("a list")
        };
        assert!(rows.len() <= 2);
        seen.extend(rows.into_iter().map(|row| row.entry));
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, entries);
    let action = QueueAction::List { all: false, after: 0, limit: 100 };
    let stranger = world.connect_as(9, 2_000);
    let request = Request::Queue { profile: None, action: action.clone() };
    assert!(
        matches!(world.call(stranger, request), Ok(Reply::Queue { rows, .. }) if rows.is_empty())
    );
    let request = Request::Queue { profile: Some("work".into()), action };
    let Ok(Reply::Queue { rows, .. }) = world.call(at, request) else { panic!("a list") };
    assert!(rows.is_empty() || rows.iter().all(|r| r.profile == "work"));
}

/// design §8 `queue`: stores that close or open between two pages neither hide nor double another's rows.
#[test]
fn a_list_goes_on_while_stores_come_and_go() {
    let page = |world: &mut World, at, after| {
        let action = QueueAction::List { all: false, after, limit: 2 };
        match world.call(at, Request::Queue { profile: None, action }) {
            Ok(Reply::Queue { rows, next }) => {
                (rows.into_iter().map(|r| r.entry).collect::<Vec<_>>(), next)
            }
            other => panic!("a list, and not {other:?}"),
        }
    };
    let mut world = World::new();
    let (at, there) = (world.connect(1), world.connect(2));
    let first = world.logon_with(there, "default", LogonFlags::NO_MAIL);
    world.submit(first, "d@x");
    let work = world.logon_with(at, "work", LogonFlags::NO_MAIL);
    let entries: Vec<_> = (0..4).map(|n| world.submit(work, &format!("w{n}@x"))).collect();
    let (rows, next) = page(&mut world, at, 0);
    assert_eq!(rows.len(), 1);
    world.logoff(first);
    world.advance(secs(60));
    assert_eq!(world.broker.queues.engines.len(), 1);
    let (rows, next) = page(&mut world, at, next.expect("there is more"));
    assert_eq!(rows, entries[..2]);
    world.logon_with(there, "default", LogonFlags::NO_MAIL);
    let (rows, next) = page(&mut world, at, next.expect("there is more"));
    assert_eq!((&rows[..], next), (&entries[2..], None));
}

/// design §8 `queue`: without a session one is made for the question, and closes again.
#[test]
fn the_queue_can_be_asked_without_a_logon() {
    let mut world = World::new();
    let at = world.connect(1);
    let action = QueueAction::List { all: true, after: 0, limit: 10 };
    let request = Request::Queue { profile: Some("work".into()), action };
    assert_eq!(world.call(at, request), Ok(Reply::Queue { rows: Vec::new(), next: None }));
    world.advance(secs(20));
    world.assert_empty();
}

/// design §4: a body is streamed in pieces and used once; one with a hole in it is never used.
#[test]
fn bodies_are_streamed() {
    let mut world = World::new();
    let member = world.member(1);
    let piece = |n, bytes: &[u8]| Request::Upload {
        member: member.id,
        store: 0,
        upload: UploadId(n),
        bytes: Blob(bytes.to_vec()),
    };
    let submit = |world: &mut World, n| {
        let submit = world.submit_request(member, &["b@x"]);
        Request::Submit(Submit { content: Content::Uploaded(UploadId(n)), ..submit })
    };
    world.done(member.at, piece(1, b"one "));
    world.done(member.at, piece(1, b"two"));
    let request = submit(&mut world, 1);
    assert!(world.call(member.at, request).is_ok());
    let bytes: Vec<_> = world.store("default").messages.values().map(|m| m.bytes.clone()).collect();
    assert_eq!(bytes, [b"one two".to_vec()]);
    let request = submit(&mut world, 1);
    assert_eq!(world.refused(member.at, request), Code::E_INVALID_PARAMETER);

    world.store("default").failures.insert("Append", [Code::E_NOT_ENOUGH_DISK].into());
    world.hold("store", "Append");
    let pieces =
        [world.ask(member.at, piece(2, b"lost ")), world.ask(member.at, piece(2, b"kept"))];
    let request = submit(&mut world, 2);
    assert_eq!(world.refused(member.at, request), Code::E_BUSY);
    world.let_go("store");
    assert!(world.answer(member.at, pieces[0]).expect("answered").is_err());
    let request = submit(&mut world, 2);
    assert_eq!(world.refused(member.at, request), Code::E_INVALID_PARAMETER);
    assert!(world.store("default").uploads.is_empty(), "what is left of it is discarded");
    // A piece that comes later is not the beginning of another body.
    assert_eq!(world.refused(member.at, piece(2, b"middle")), Code::E_INVALID_PARAMETER);
    let request = submit(&mut world, 2);
    assert_eq!(world.refused(member.at, request), Code::E_INVALID_PARAMETER);
    // Numbers that failed are not kept for ever, and take no place from those that grow.
    for n in 3..200 {
        world.store("default").failures.insert("Append", [Code::E_NOT_ENOUGH_DISK].into());
        assert_eq!(world.refused(member.at, piece(n, b"lost")), Code::E_NOT_ENOUGH_DISK);
    }
    world.done(member.at, piece(200, b"whole"));
    world.assert_counts();
}

/// design §8 *quotas*: messages have a limit, inline and streamed; what was streamed is discarded.
#[test]
fn messages_have_a_limit() {
    let limits = Limits { message: 10, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    assert_eq!(world.try_submit(member, &["b@x"]).expect_err("refused").code, Code::E_TOO_BIG);
    let piece = Request::Upload {
        member: member.id,
        store: 0,
        upload: UploadId(1),
        bytes: Blob(b"12345678".to_vec()),
    };
    world.done(member.at, piece.clone());
    assert_eq!(world.refused(member.at, piece), Code::E_TOO_BIG);
    assert!(world.store("default").uploads.is_empty());
}

/// NOTIF-15: a submit is answered before anybody is told what it caused.
#[test]
fn the_answer_comes_before_the_news() {
    use super::world::Heard;
    let mut world = World::new();
    let member = world.member(1);
    world.advise(member, Events::OBJECT_CREATED | Events::OBJECT_MOVED);
    world.heard(member.at);
    let submit = world.submit_request(member, &["b@x"]);
    let id = world.ask(member.at, Request::Submit(submit));
    world.settle();
    let heard = world.heard(member.at);
    assert_eq!(heard[0], Heard::Answer(id));
    assert!(matches!(&heard[1], Heard::News(_, News::Created(p)) if p.folder == Folder::OUTBOX));
    assert!(matches!(&heard[2], Heard::News(_, News::Moved(p, _)) if p.folder == Folder::SENT));
    assert_eq!(heard.len(), 3);
}

/// what a member without mail submits is taken and waits.
#[test]
fn mail_of_a_member_without_mail_waits() {
    let mut world = World::new();
    let at = world.connect(1);
    let member = world.logon_with(at, "default", LogonFlags::NO_MAIL);
    let entry = world.submit(member, "b@x");
    world.advance(secs(3_600));
    assert_eq!(world.state(entry), SubmissionState::Queued);
    world.open(member, Opening::Folder(0, Folder::OUTBOX));
    assert_eq!(world.logoff(member).queued, 1);
    world.advance(secs(60));
    world.assert_empty();
    let other = world.member(2);
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.logoff(other);
}

/// A sender that is no address is refused as the sender. Where the profile's identity is none either, this host's name is the reason.
///
/// design §3.20
#[test]
fn a_sender_that_is_no_address_is_named_as_that() {
    let mut world = World::new();
    world.profile("default").identity = "me@my host".into();
    let member = world.member(1);
    let mut refused = |from: Option<&str>| {
        let submit = Submit {
            from: from.map(str::to_owned),
            ..world.submit_request(member, &["b@far.lan"])
        };
        let fault = world.call(member.at, Request::Submit(submit)).expect_err("refused");
        assert_eq!(fault.code, Code::E_INVALID_PARAMETER);
        (fault.message, fault.detail)
    };
    for from in [None, Some("root@my host")] {
        let (message, wrong) = refused(from);
        let from = from.unwrap_or("me@my host");
        assert_eq!(wrong, FaultDetail::Addresses(vec![from.to_owned()]));
        assert!(
            message.starts_with(&format!("the sender {from:?} is not an address")),
            "{message}"
        );
        assert!(message.contains("\"my host\" is the name of this host"), "{message}");
    }
    let (message, _) = refused(Some("me@a..b"));
    assert!(
        message.contains("the sender \"me@a..b\"") && !message.contains("this host"),
        "{message}"
    );
}
