//! Leaving fast: query, notify, do; for one process, over all its sessions, and for nobody else.

use std::collections::BTreeSet;

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::reply::{Reply, Resource, SubmissionState};
use sundown_protocol::request::{
    AddressAction, AdviseSource, Content, Folder, LogoffFlags, LogonFlags, Opening, QueueAction,
    ReadSource, Request, SettingChange, StatusCursor, Stopping, StoreLogoff,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event as News, Events, Fault, FaultDetail, ObjectId, SubmitKey, Token,
    UploadId,
};

use super::fakes::{Interface, Step};
use super::world::{
    Heard, Member, OWNER, World, entries_of, logoff_request, logon_request, millis, profile, secs,
    settings, store,
};
use crate::ground::event::ConnectionId;
use crate::provider::Outcome;
use crate::provider::TransportFacts;
use crate::settings::DisableFastShutdown;
use crate::settings::FastShutdownBehavior;
use crate::settings::Linger;
use crate::settings::Settings;
use crate::settings::SharedLogoff;
use crate::settings::Shutdown;
use crate::{Event, Stop};

use DisableFastShutdown::{All, No};
use FastShutdownBehavior::{Disabled, OptIn, OptOut};

pub(super) fn with(shutdown: Shutdown) -> World {
    World::with(Settings { shutdown, ..settings() })
}

fn behaving(fast_shutdown: FastShutdownBehavior) -> World {
    with(Shutdown { fast_shutdown, ..Shutdown::default() })
}

fn reload(world: &mut World, shutdown: Shutdown) {
    world.apply(Event::Reload(Box::new(Settings { shutdown, ..settings() })));
}

pub(super) fn providers(fault: &Fault) -> Vec<&str> {
    match &fault.detail {
        FaultDetail::Providers(names) => names.iter().map(String::as_str).collect(),
        other => panic!("{other:?} instead of providers"),
    }
}

fn left(member: Member) -> News {
    News::MemberLeft { member: member.id, reason: LeaveReason::FastShutdown }
}

/// What the providers of a profile are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Are {
    Fine,
    /// The transport refuses.
    Refusing,
    /// The address book has no such interface.
    Unaware,
    /// The transport does not answer.
    Hung,
    /// There is a store, and nothing else.
    Alone,
}

/// Settings, whether the client's Do is disabled, providers; whether Query says yes, who refused; calls of Query, of Do.
type Row = (
    FastShutdownBehavior,
    bool,
    Are,
    Result<(), &'static [&'static str]>,
    &'static str,
    &'static str,
);

const POLLED: &str = "relay.Query people.Query store.Query";
const TOLD: &str = "relay.Do people.Do store.Do";

/// SEED-10, SEED-16, SEED-21, CFS-4, CFS-5, CFS-7, PFS-2, PFS-3, PFS-7, CFG-2, CFG-3, CFG-4, CFG-5, ORDER-1, A-27, A-33,
/// design §3.6: every policy with every kind of provider. The answer to Query, who refused, the answer to Do, and the
/// calls that providers got. The same holds when it is asked again.
#[test]
fn policies_and_providers() {
    let table: &[Row] = &[
        (OptIn, false, Are::Fine, Ok(()), POLLED, TOLD),
        (OptIn, false, Are::Refusing, Err(&["relay"]), POLLED, ""),
        (OptIn, false, Are::Unaware, Err(&["people"]), "relay.Query store.Query", ""),
        (OptIn, false, Are::Hung, Err(&["relay"]), POLLED, ""),
        (OptIn, false, Are::Alone, Ok(()), "store.Query", "store.Do"),
        (OptOut, false, Are::Fine, Ok(()), POLLED, TOLD),
        (OptOut, false, Are::Refusing, Err(&["relay"]), POLLED, ""),
        (OptOut, false, Are::Unaware, Ok(()), "relay.Query store.Query", "relay.Do store.Do"),
        (OptOut, false, Are::Hung, Err(&["relay"]), POLLED, ""),
        (OptOut, false, Are::Alone, Ok(()), "store.Query", "store.Do"),
        (Disabled, false, Are::Fine, Err(&[]), "", ""),
        (Disabled, false, Are::Refusing, Err(&[]), "", ""),
        (Disabled, false, Are::Unaware, Err(&[]), "", ""),
        (Disabled, false, Are::Hung, Err(&[]), "", ""),
        (Disabled, false, Are::Alone, Err(&[]), "", ""),
        (OptIn, true, Are::Fine, Ok(()), POLLED, ""),
        (OptIn, true, Are::Refusing, Err(&["relay"]), POLLED, ""),
        (OptIn, true, Are::Unaware, Err(&["people"]), "relay.Query store.Query", ""),
        (OptIn, true, Are::Hung, Err(&["relay"]), POLLED, ""),
        (OptIn, true, Are::Alone, Ok(()), "store.Query", ""),
        (OptOut, true, Are::Unaware, Ok(()), "relay.Query store.Query", ""),
        (Disabled, true, Are::Fine, Err(&[]), "", ""),
    ];
    for (fast_shutdown, disable_fast_shutdown, are, verdict, polled, told) in table {
        let shutdown = Shutdown {
            fast_shutdown: *fast_shutdown,
            disable_fast_shutdown: if *disable_fast_shutdown { All } else { No },
            ..Shutdown::default()
        };
        let case = format!("{fast_shutdown:?}, {disable_fast_shutdown}, {are:?}");
        let mut world = with(shutdown);
        match are {
            Are::Fine => {}
            Are::Refusing => {
                world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_BUSY));
            }
            Are::Unaware => {
                world.interfaces.insert("people".into(), Interface::Unaware);
            }
            Are::Hung => world.hold("relay", "QueryFastShutdown"),
            Are::Alone => {
                let profile = world.profile("default");
                profile.transports.clear();
                profile.address_books.clear();
            }
        }
        let member = world.member(1);
        for round in 0..2 {
            let id = world.ask(member.at, Request::QueryFastShutdown);
            world.settle();
            if *are == Are::Hung && round == 0 && *fast_shutdown != Disabled {
                assert_eq!(world.answer(member.at, id), None, "{case}: it has a second");
                world.advance(secs(1));
                world.let_go("relay");
            }
            let answer = world.answer(member.at, id).expect("answered");
            match (verdict, answer) {
                (Ok(()), answer) => assert_eq!(answer, Ok(Reply::Done), "{case}"),
                (Err(names), Err(fault)) => {
                    assert_eq!(fault.code, Code::E_NO_SUPPORT, "{case}");
                    if names.is_empty() {
                        assert_eq!(fault.detail, FaultDetail::None, "{case}");
                    } else {
                        assert_eq!(providers(&fault), *names, "{case}");
                    }
                }
                (Err(_), answer) => panic!("{case}: {answer:?}"),
            }
            assert_eq!(world.swept_words(), *polled, "{case}: polled once");
        }
        let answer = world.do_fast(member.at);
        if told.is_empty() {
            assert_eq!(answer.expect_err("refused").code, Code::E_NO_SUPPORT, "{case}");
            assert_eq!(world.swept_words(), *polled, "{case}: a refused Do calls nobody");
            world.logoff(member);
        } else {
            assert_eq!(answer, Ok(Reply::Done), "{case}");
            assert_eq!(world.swept_words(), format!("{polled} {told}"), "{case}");
        }
    }
}

/// SEED-16, SEED-9, CFS-14, ORDER-1, ORDER-2, A-32: in each phase a later kind waits for the earlier one of its session,
/// sessions begin in the order of their creation, and do not wait for each other. (The harness looks at each call.)
#[test]
fn sessions_do_not_wait_for_each_other() {
    let mut world = World::new();
    let mut work = profile("work");
    work.transports[0].provider.name = "slow".into();
    work.address_books[0].name = "friends".into();
    work.stores[0].name = "archive".into();
    world.add_profile(work);
    let at = world.connect(1);
    world.logon_to(at, "work");
    world.logon(at);
    for (request, word) in [
        (Request::QueryFastShutdown, "Query"),
        (Request::NotifyProcessShutdown, "Notify"),
        (Request::DoFastShutdown { remembered: false }, "Do"),
    ] {
        world.hold("slow", "*");
        let before = world.swept().len();
        let id = world.ask(at, request);
        world.settle();
        assert_eq!(world.answer(at, id), None);
        let so_far: Vec<_> = world.swept()[before..].iter().map(|(_, p, _)| p.clone()).collect();
        assert_eq!(so_far, ["slow", "relay", "people", "store"], "{word}");
        world.let_go("slow");
        assert_eq!(world.answer(at, id), Some(Ok(Reply::Done)));
        let rest: Vec<_> = world.swept()[before + 4..].iter().map(|(_, p, _)| p.clone()).collect();
        assert_eq!(rest, ["friends", "archive"], "{word}");
    }
}

/// SEED-18: a provider is called for every store it serves.
#[test]
fn every_store_is_called() {
    let mut world = World::new();
    let second = store("second", "/default/second");
    let mut default = profile("default");
    default.stores.push(second);
    world.add_profile(default);
    let at = world.connect(1);
    world.logon(at);
    // The same store again, by another session.
    world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    world.leave_fast(at);
    let stores = |call| {
        let swept = world.swept().into_iter();
        swept.filter(|(_, p, c)| (p == "store" || p == "second") && *c == call).count()
    };
    assert_eq!((stores("QueryFastShutdown"), stores("DoFastShutdown")), (4, 4));
}

/// SEED-12, STICK-7, design §10.4: the first answer is the process's answer: whatever providers say later, whatever is
/// reloaded, from every connection, and whether it is connected or not.
#[test]
fn a_verdict_never_changes() {
    let mut world = World::new();
    let yes = world.member(1);
    assert_eq!(world.query(yes.at), Ok(Reply::Done));
    let no = world.member(2);
    world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_NO_SUPPORT));
    world.logoff(yes);
    let (again, private) = (world.connect(1), world.connect(1));
    world.logon_with(private, "work", LogonFlags::NEW_SESSION);
    let fresh = world.connect(2);
    world.logon_with(fresh, "work", LogonFlags::NEW_SESSION);
    let fault = world.query(no.at).expect_err("refused");
    assert_eq!(providers(&fault), ["relay"]);
    let calls = world.swept().len();
    for fast_shutdown in [OptIn, OptOut, Disabled] {
        reload(&mut world, Shutdown { fast_shutdown, ..Shutdown::default() });
        world.interfaces.clear();
        assert_eq!(world.query(again), Ok(Reply::Done));
        assert_eq!(world.query(no.at), Err(fault.clone()));
    }
    world.disconnect(no.at);
    world.disconnect(fresh);
    let back = world.connect(2);
    assert_eq!(world.query(back), Err(fault));
    assert_eq!(world.swept().len(), calls, "who has answered is not asked again");
    // what the policy says now counts for Do.
    assert_eq!(world.do_fast(again).expect_err("disabled").code, Code::E_NO_SUPPORT);
    assert_eq!(world.do_fast(back).expect_err("no").code, Code::E_NO_SUPPORT);
}

/// CFG-4, SEED-12: "disabled" is an answer too, and holds when settings change.
#[test]
fn disabled_is_an_answer() {
    let mut world = behaving(Disabled);
    let member = world.member(1);
    let fault = world.query(member.at).expect_err("disabled");
    reload(&mut world, Shutdown::default());
    assert_eq!(world.query(member.at), Err(fault));
    assert_eq!(world.swept(), []);
    assert_eq!(world.do_fast(member.at).expect_err("no").code, Code::E_NO_SUPPORT);
}

/// SEED-17, PFS-2, CFG-5: a provider's first answer holds for its life, although it changes its mind; so it is for every
/// process of the session. Another session has another provider.
#[test]
fn a_providers_first_answer_holds() {
    let mut world = World::new();
    let (first, second) = (world.member(1), world.member(2));
    world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_TIMEOUT));
    world.query(first.at).expect_err("it refuses");
    world.interfaces.clear();
    assert_eq!(providers(&world.query(second.at).expect_err("it refused")), ["relay"]);
    let third = world.connect(3);
    world.logon_with(third, "default", LogonFlags::NEW_SESSION);
    assert_eq!(world.query(third), Ok(Reply::Done));
    world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_BUSY));
    let fourth = world.connect(4);
    world.logon_with(fourth, "default", LogonFlags::NEW_SESSION);
    world.query(fourth).expect_err("it refuses");
    // Its answer to a notice, however late, is no answer to a query.
    let mut world = World::new();
    let (first, second) = (world.member(1), world.member(2));
    world.hold("relay", "NotifyProcessShutdown");
    let id = world.ask(first.at, Request::NotifyProcessShutdown);
    world.advance(secs(1));
    assert_eq!(world.answer(first.at, id), Some(Ok(Reply::Done)));
    world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_NO_SUPPORT));
    world.let_go("relay");
    world.query(second.at).expect_err("it refuses");
}

/// A-29, SEED-17, design §3.6: silence is the process's refusal and not the provider's answer. Whoever stood behind the
/// silent provider is asked all the same, once its share of the time is over.
#[test]
fn silence_is_the_process_refusal_only() {
    let mut world = World::new();
    let (first, second) = (world.member(1), world.member(2));
    world.hold("relay", "QueryFastShutdown");
    let id = world.ask(first.at, Request::QueryFastShutdown);
    world.advance(millis(499));
    assert_eq!(world.answer(first.at, id), None);
    assert_eq!(world.swept_words(), "relay.Query");
    world.advance(millis(1));
    let fault = world.answer(first.at, id).expect("answered").expect_err("refused");
    assert_eq!(providers(&fault), ["relay"]);
    assert_eq!(world.swept_words(), POLLED, "everybody is asked");
    assert_eq!(world.given_up, [("relay".to_owned(), "QueryFastShutdown")]);
    world.let_go("relay");
    assert_eq!(world.query(first.at), Err(fault));
    assert_eq!(world.query(second.at), Ok(Reply::Done));
}

/// Design §3.6: queries that meet share one poll, from whichever connection.
#[test]
fn concurrent_queries_share_one_poll() {
    let mut world = World::new();
    let first = world.member(1);
    let other = world.connect(1);
    world.hold("people", "*");
    let ids = [first.at, other].map(|at| (at, world.ask(at, Request::QueryFastShutdown)));
    world.let_go("people");
    for (at, id) in ids {
        assert_eq!(world.answer(at, id), Some(Ok(Reply::Done)));
    }
    assert_eq!(world.swept_words(), POLLED);
    // Two processes poll for themselves.
    let second = world.member(2);
    assert_eq!(world.query(second.at), Ok(Reply::Done));
    assert_eq!(world.swept_words(), format!("{POLLED} {POLLED}"));
}

/// SEED-10, A-33: everybody who refuses is named, from every session.
#[test]
fn all_who_refuse_are_named() {
    let mut world = World::new();
    let at = world.connect(1);
    world.logon(at);
    for (name, interface) in [
        ("people", Interface::Unaware),
        ("store", Interface::Refuses(Code::E_CALL_FAILED)),
        ("relay", Interface::Refuses(Code::E_NO_SUPPORT)),
    ] {
        world.interfaces.insert(name.into(), interface);
    }
    assert_eq!(providers(&world.query(at).expect_err("refused")), ["people", "relay", "store"]);
}

/// LOGON-11, PFS-8: a provider that is out is not loaded, and not asked.
#[test]
fn who_is_out_is_not_asked() {
    let mut world = World::new();
    let steps = [super::fakes::Step::Refuses; 2];
    world.wire.steps.insert("people.Logon".into(), steps.into());
    let member = world.member(1);
    world.leave_fast(member.at);
    assert_eq!(world.swept_words(), "relay.Query store.Query relay.Do store.Do");
}

/// design §3.7: without a session nobody refuses. A session that is younger than the yes is served inside Do:
/// its providers are asked then, a store that refuses makes durable what was handed over, and is logged off with its session.
#[test]
fn sessions_younger_than_the_yes() {
    let mut world = World::new();
    let at = world.connect(1);
    assert_eq!(world.query(at), Ok(Reply::Done));
    world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_NO_SUPPORT));
    world.interfaces.insert("store".into(), Interface::Refuses(Code::E_NO_SUPPORT));
    let member = world.logon(at);
    world.draft(member, "unsaved");
    world.submit_deferred(member, "b@x");
    assert_eq!(world.do_fast(at), Ok(Reply::Done));
    assert_eq!(world.swept_words(), "relay.Query people.Query people.Do store.Query");
    assert!(world.calls_of("store").contains(&"Flush"));
    world.advance(secs(60));
    let logoffs = world.order_of("Logoff");
    assert_eq!(logoffs, ["relay", "people", "store"]);
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// SEED-13, SEED-19, CFS-6, CFS-8, A-28, A-41, A-17, design §3.6: Notify before a Query, after a no, and where fast
/// shutdown is disabled: every provider with the interface is told in order, whatever it answers; life goes on.
#[test]
fn notify_is_always_passed_on() {
    for fast_shutdown in [OptIn, OptOut, Disabled] {
        let mut world = behaving(fast_shutdown);
        world.interfaces.insert("people".into(), Interface::Unaware);
        let failures = vec![Code::E_DISK_ERROR; 1];
        world.store("default").failures.insert("NotifyProcessShutdown", failures.into());
        let member = world.member(1);
        world.notify(member.at);
        assert_eq!(world.swept_words(), "relay.Notify store.Notify");
        let entry = world.submit(member, "b@x");
        assert_eq!(world.state(entry), SubmissionState::Sent);
        world.open(member, Opening::AddressBook);
        let _ = world.query(member.at);
        // Each session is told once; one that came since is told, too.
        let before = world.swept().len();
        world.notify(member.at);
        assert_eq!(world.swept().len(), before);
        world.logon_to(member.at, "work");
        world.notify(member.at);
        assert_eq!(world.swept().len(), before + 2);
        world.logoff(member);
    }
}

/// a provider that does not answer a notice is not waited for longer than a second, and keeps nobody from
/// being told. Notices that meet share one sweep.
#[test]
fn a_notice_waits_a_second() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "*");
    let ids = [0, 1].map(|_| world.ask(member.at, Request::NotifyProcessShutdown));
    world.advance(secs(1));
    for id in ids {
        assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)));
    }
    assert_eq!(world.swept_words(), "relay.Notify people.Notify store.Notify");
    world.let_go("relay");
    // Do without waiting for the rest of a notice: nobody is told of it after Do.
    let other = world.member(2);
    assert_eq!(world.query(other.at), Ok(Reply::Done));
    world.hold("people", "NotifyProcessShutdown");
    let before = world.swept().len();
    let notice = world.ask(other.at, Request::NotifyProcessShutdown);
    world.settle();
    let id = world.ask_do(other.at);
    world.let_go("people");
    assert_eq!(world.answer(other.at, notice), Some(Ok(Reply::Done)));
    assert_eq!(world.answer(other.at, id), Some(Ok(Reply::Done)));
    let words: Vec<_> =
        world.swept().split_off(before).into_iter().map(|(_, p, c)| (p, c)).collect();
    let (notify, fast) = ("NotifyProcessShutdown", "DoFastShutdown");
    let wanted =
        [("relay", notify), ("people", notify), ("relay", fast), ("people", fast), ("store", fast)];
    assert_eq!(words, wanted.map(|(p, c)| (p.to_owned(), c)));
}

/// A process that gives notice again while the first is on its way, because it has come to another session since, has both answered. A
/// Do, and the end of the process, end both.
#[test]
fn notices_of_one_process_do_not_replace_each_other() {
    for ends in ["by themselves", "with a Do", "with the process"] {
        let mut world = World::new();
        let member = world.member(1);
        world.query(member.at).expect("it may");
        world.hold("relay", "NotifyProcessShutdown");
        let first = world.ask(member.at, Request::NotifyProcessShutdown);
        world.logon_to(member.at, "work");
        let second = world.ask(member.at, Request::NotifyProcessShutdown);
        world.settle();
        assert_eq!((world.answer(member.at, first), world.answer(member.at, second)), (None, None));
        match ends {
            "by themselves" => world.let_go("relay"),
            "with a Do" => {
                let id = world.ask_do(member.at);
                world.let_go("relay");
                assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)));
                let calls = world.calls_of("store");
                let fast = calls.iter().position(|call| *call == "DoFastShutdown");
                let fast = fast.expect("it is told");
                assert!(!calls[fast..].contains(&"NotifyProcessShutdown"), "{calls:?}");
            }
            _ => {
                world.disconnect(member.at);
                world.end_process(1);
                world.let_go("relay");
                continue;
            }
        }
        for id in [first, second] {
            assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)), "{ends}");
        }
    }
}

/// A-26, CFS-7, CFS-8: Do without a yes calls nobody and changes nothing; without a Notify it is fine.
#[test]
fn do_needs_a_yes() {
    let mut world = World::new();
    let member = world.member(1);
    assert_eq!(world.do_fast(member.at).expect_err("no yes").code, Code::E_NO_SUPPORT);
    world.notify(member.at);
    assert_eq!(world.do_fast(member.at).expect_err("no yes").code, Code::E_NO_SUPPORT);
    world.open(member, Opening::Store(0));
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    let other = world.member(2);
    assert_eq!(world.do_fast(other.at).expect_err("not its yes").code, Code::E_NO_SUPPORT);
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
}

/// SEED-8, SEED-14, SEED-20, CFS-1, CFS-15, PFS-5, design §3.8: Do is answered after everything is durable, and torn down
/// after the answer.
#[test]
fn durable_then_answered_then_torn_down() {
    let mut world = World::new();
    let (leaves, stays) = (world.member(1), world.member(2));
    world.advise(stays, Events::EXTENDED);
    let folder = world.open(leaves, Opening::Folder(0, Folder::INBOX));
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    world.hold("store", "*");
    let entry = world.submit_deferred(leaves, "b@x");
    world.draft(leaves, "unsaved");
    let setting = world.ask(
        leaves.at,
        Request::Setting {
            member: leaves.id,
            section: "p".into(),
            name: "n".into(),
            change: SettingChange::Set("v".into()),
        },
    );
    let save = world.draft(leaves, "saved");
    let save = Request::Save { member: leaves.id, object: save, key: SubmitKey(7) };
    let save = world.ask(leaves.at, save);
    let id = world.ask_do(leaves.at);
    world.settle();
    assert_eq!(world.answer(leaves.at, id), None);
    // All but the last call of the store were carried out.
    let waiting = world.waiting_calls("store");
    world.carry_out_some("store", waiting - 1);
    assert_eq!(world.answer(leaves.at, id), None);
    assert!(world.answer(leaves.at, setting).expect("before it").is_ok());
    assert!(world.answer(leaves.at, save).expect("before it").is_ok());
    world.heard(leaves.at);
    world.heard(stays.at);
    let torn = |world: &World| !world.broker.sessions.members.contains_key(&leaves.id);
    assert!(!torn(&world));
    world.clear_holds();
    while world.answer(leaves.at, id).is_none() {
        assert!(!torn(&world), "torn down before the answer");
        assert!(world.heard(stays.at).is_empty(), "told before the answer");
        assert!(world.step(0));
    }
    assert!(!torn(&world), "what it has open does not keep it");
    world.settle();
    assert!(torn(&world));
    assert_eq!(world.heard(stays.at), [Heard::News(stays.id, left(leaves))]);
    assert_eq!(world.state(entry), SubmissionState::Sent);
    let drafts = world.store("default").messages.values().filter(|m| m.folder == Folder::DRAFTS);
    let drafts: BTreeSet<_> = drafts.map(|m| (m.bytes.clone(), m.recovered)).collect();
    let wanted = [(b"saved".to_vec(), false), (b"unsaved".to_vec(), true)];
    assert_eq!(drafts, BTreeSet::from(wanted));
    let list = Request::List { member: leaves.id, object: folder, after: 0, limit: 1 };
    assert_eq!(world.refused(leaves.at, list), Code::E_NOT_INITIALIZED);
}

/// What every request answers on a connection.
fn refuse_everything(world: &mut World, at: ConnectionId, member: Member, code: Code) {
    for request in everything(world, member) {
        let name = request.name();
        // A copy of the library may learn that the process was shut down, for the next broker.
        if matches!(request, Request::Ticket { .. }) {
            continue;
        }
        let answer = world.call(at, request).expect_err(name);
        assert_eq!(answer.code, code, "{name}");
    }
}

/// A request of each kind.
pub(super) fn everything(world: &mut World, member: Member) -> Vec<Request> {
    let (id, object) = (member.id, ObjectId { place: 0, generation: 0 });
    let entry = EntryId { store: 1, record: 1 };
    let content = || Content::Inline(sundown_protocol::request::Blob(b"x".to_vec()));
    let submit = world.submit_request(member, &["b@x"]);
    vec![
        logon_request(None, LogonFlags::default()),
        logoff_request(id, LogoffFlags::default(), None),
        Request::Advise { member: id, source: AdviseSource::Session, events: Events::EXTENDED },
        Request::Unadvise { member: id, advise: AdviseId(1) },
        Request::Open { member: id, what: Opening::AddressBook },
        Request::Release { member: id, object },
        Request::List { member: id, object, after: 0, limit: 1 },
        Request::Read { member: id, source: ReadSource::Entry(entry), offset: 0 },
        Request::Upload {
            member: id,
            store: 0,
            upload: UploadId(1),
            bytes: sundown_protocol::request::Blob(b"x".to_vec()),
        },
        Request::Submit(submit),
        Request::Draft { member: id, store: 0, content: content() },
        Request::Save { member: id, object, key: SubmitKey(1) },
        Request::Delete { member: id, entry },
        Request::Setting {
            member: id,
            section: "s".into(),
            name: "n".into(),
            change: SettingChange::Keep,
        },
        Request::AbortSubmit { member: id, entry },
        Request::Flush { member: id },
        Request::AddressBook {
            member: id,
            object,
            action: AddressAction::Resolve { name: "x".into() },
        },
        Request::QueryFastShutdown,
        Request::NotifyProcessShutdown,
        Request::DoFastShutdown { remembered: false },
        Request::DoFastShutdown { remembered: true },
        Request::Grant { member: id, object, token: Token(1), pid: None },
        Request::Redeem { token: Token(1) },
        Request::Revoke { member: id, token: Token(1) },
        Request::Status,
        Request::StatusPage { after: StatusCursor::default() },
        Request::Queue {
            profile: None,
            action: QueueAction::List { all: true, after: 0, limit: 1 },
        },
        Request::Stop { how: Stopping::Orderly },
        Request::ValidateState {
            member: id,
            kind: Resource::TransportProvider,
            provider: "relay".into(),
        },
        Request::StoreLogoff { member: id, object, flags: StoreLogoff::QUIET },
        Request::DeleteProfile { name: "work".into() },
        Request::Broker,
        Request::Ticket { shown: None },
        Request::DeleteFrom { member: id, entry, from: Folder::INBOX },
    ]
}

/// SEED-14, CFS-10, STICK-1, A-26, design §3.12, §10.5: after Do every call of the process fails, of every kind, on every
/// connection, also on a new one, until the process ends.
#[test]
fn after_do_nothing_goes() {
    let mut world = World::new();
    let leaves = world.member(1);
    let sibling = world.connect(1);
    let second = world.logon_to(sibling, "work");
    let stays = world.member(2);
    world.leave_fast(leaves.at);
    refuse_everything(&mut world, leaves.at, leaves, Code::E_NOT_INITIALIZED);
    refuse_everything(&mut world, sibling, second, Code::E_NOT_INITIALIZED);
    let late = world.connect(1);
    refuse_everything(&mut world, late, leaves, Code::E_NOT_INITIALIZED);
    for at in [leaves.at, sibling, late] {
        world.disconnect(at);
    }
    let later = world.connect(1);
    assert_eq!(world.query(later).expect_err("it is the same").code, Code::E_NOT_INITIALIZED);
    world.end_process(1);
    let another = world.connect(1);
    let another = world.logon(another);
    assert_eq!(world.query(another.at), Ok(Reply::Done));
    world.logoff(another);
    world.open(stays, Opening::Store(0));
}

/// SEED-9, CFS-14, A-30, design §10.1, §10.10: for everybody else it is a member that left, and nothing more; mail goes
/// out, and the session goes on.
#[test]
fn others_see_a_member_that_left() {
    let mut world = World::new();
    let at = world.connect(1);
    let (first, second) = (world.logon(at), world.logon(at));
    let (told, quiet) = (world.member(2), world.member(3));
    world.advise(told, Events::EXTENDED | Events::CRITICAL_ERROR);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let mine = world.submit(first, "a@x");
    let theirs = world.submit(told, "b@x");
    world.leave_fast(at);
    assert_eq!(world.news(told), [left(first), left(second)]);
    assert_eq!(world.news(quiet), []);
    assert_eq!(world.news(first), []);
    let status = world.status();
    assert_eq!(status.sessions.len(), 1);
    assert_eq!(
        (status.sessions[0].state.as_str(), status.sessions[0].members.len()),
        ("active", 2)
    );
    world.wire.broken.clear();
    world.advance(secs(60));
    for entry in [mine, theirs] {
        assert_eq!(world.state(entry), SubmissionState::Sent);
    }
    // The other may take the same way, or another one.
    world.leave_fast(told.at);
    world.logoff(quiet);
    assert!(!world.calls.iter().any(|c| c.call == "DoFastShutdown" && c.pid == Some(3)));
}

/// A-30, design §3.5: after the last member's Do the session lingers for its mail, and then its providers are logged off
/// in order.
#[test]
fn the_session_lingers_and_ends_in_order() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entry = world.submit(member, "b@x");
    world.leave_fast(member.at);
    assert_eq!(world.sessions(), ["memberless"]);
    assert_eq!(world.order_of("Logoff"), Vec::<String>::new());
    world.wire.broken.clear();
    world.advance(secs(120));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.order_of("Logoff"), ["relay", "people", "store"]);
    world.assert_empty();
    // Without anything to linger for it ends at once; a private one too.
    for flags in [LogonFlags::default(), LogonFlags::NEW_SESSION] {
        let at = world.connect(2);
        world.logon_with(at, "default", flags);
        world.leave_fast(at);
        assert_eq!(world.sessions(), Vec::<String>::new());
        world.end_process(2);
    }
    // And where sessions do not linger, mail waits.
    let mut world = with(Shutdown { linger: Linger::Off, ..Shutdown::default() });
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    world.clear_holds();
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    world.settle();
    world.leave_fast(member.at);
    assert_eq!(world.sessions(), Vec::<String>::new());
    assert!(!world.state(entry).is_final());
}

/// SEED-8, design §3.8, §10.9: what cannot be persisted makes Do fail, with its code, and nothing is torn down: every
/// handle works, trying again does it, and drafts are there once. So does the traditional way.
#[test]
fn a_do_that_fails_tears_nothing_down() {
    for (call, code) in [
        ("DoFastShutdown", Code::E_DISK_ERROR),
        ("DoFastShutdown", Code::E_NOT_ENOUGH_DISK),
        ("SaveChanges", Code::E_NOT_ENOUGH_DISK),
    ] {
        for again in [true, false] {
            let mut world = World::new();
            let (member, other) = (world.member(1), world.member(2));
            world.advise(other, Events::EXTENDED);
            let folder = world.open(member, Opening::Folder(0, Folder::DRAFTS));
            let drafts = [world.draft(member, "one"), world.draft(member, "two")];
            assert_eq!(world.query(member.at), Ok(Reply::Done));
            world.store("default").failures.insert(call, vec![code].into());
            let fault = world.do_fast(member.at).expect_err("it failed");
            assert_eq!(fault.code, code, "{call}");
            assert_eq!(world.news(other), []);
            let list = Request::List { member: member.id, object: folder, after: 0, limit: 9 };
            assert!(world.call(member.at, list).is_ok());
            for object in drafts {
                let key = SubmitKey(u128::from(object.place) + 99);
                if again {
                    break;
                }
                let save = Request::Save { member: member.id, object, key };
                assert!(matches!(world.call(member.at, save), Ok(Reply::Saved(_))));
            }
            if again {
                assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
            } else {
                world.logoff(member);
            }
            assert_eq!(world.in_folder("default", Folder::DRAFTS), 2, "{call}, {again}");
            world.logoff(other);
            world.advance(secs(60));
            world.assert_empty();
        }
    }
}

/// A-29, design §3.8, §10.10: a store that hangs makes Do fail at its deadline; nothing is torn down, and when it works
/// again so does Do, or a logoff.
#[test]
fn a_store_that_hangs_makes_do_fail() {
    for again in [true, false] {
        let mut world = World::new();
        let member = world.member(1);
        world.draft(member, "unsaved");
        assert_eq!(world.query(member.at), Ok(Reply::Done));
        world.hold("store", "*");
        let entry = world.submit_deferred(member, "b@x");
        let id = world.ask_do(member.at);
        world.advance(millis(9_999));
        assert_eq!(world.answer(member.at, id), None);
        world.advance(millis(1));
        let fault = world.answer(member.at, id).expect("answered").expect_err("it failed");
        assert_eq!(fault.code, Code::E_TIMEOUT);
        assert!(fault.message.contains("store"), "{fault}");
        world.let_go("store");
        if again {
            assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
        } else {
            assert!(world.try_logoff(member, LogoffFlags::default()).is_ok());
        }
        assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
        world.advance(secs(60));
        assert_eq!(world.state(entry), SubmissionState::Sent);
    }
}

/// Design §3.8, §3.16: deferred submissions that could not be stored make Do fail once, named.
#[test]
fn a_lost_submission_is_said_once() {
    let mut world = World::new();
    let member = world.member(1);
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.hold("store", "*");
    let lost = world.submit_deferred(member, "a@x");
    world.submit_deferred(member, "b@x");
    let failures = vec![Code::E_NOT_ENOUGH_DISK];
    world.store("default").failures.insert("SubmitMessage", failures.into());
    let id = world.ask_do(member.at);
    world.let_go("store");
    let fault = world.answer(member.at, id).expect("answered").expect_err("it failed");
    assert_eq!((fault.code, entries_of(&fault)), (Code::E_NOT_ENOUGH_DISK, vec![lost]));
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// design §3.8: a transport or an address book that fails does not keep a process; one that hangs does so for
/// half of the time, an address book behind it for half of the rest, and the stores have what remains.
#[test]
fn others_do_not_keep_a_process() {
    let mut world = World::new();
    let member = world.member(1);
    world.draft(member, "unsaved");
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.hold("relay", "*");
    world.hold("people", "*");
    let id = world.ask_do(member.at);
    let told = |world: &World| {
        let told = world.swept().into_iter().filter(|(_, _, c)| *c == "DoFastShutdown");
        told.map(|(_, p, _)| p).collect::<Vec<_>>()
    };
    world.advance(millis(4_999));
    assert_eq!(told(&world), ["relay"]);
    world.advance(millis(1));
    assert_eq!(told(&world), ["relay", "people"]);
    world.advance(millis(2_500));
    assert_eq!(told(&world), ["relay", "people", "store"]);
    assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)));
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    world.let_all_go();
    world.advance(secs(60));
    world.assert_empty();

    // One that was asked only now and answers late is not called any more.
    let mut world = World::new();
    let at = world.connect(1);
    assert_eq!(world.query(at), Ok(Reply::Done));
    world.logon(at);
    world.hold("relay", "*");
    world.hold("store", "DoFastShutdown");
    let id = world.ask_do(at);
    world.advance(secs(6));
    world.let_go("relay");
    world.let_go("store");
    assert_eq!(world.answer(at, id), Some(Ok(Reply::Done)));
    assert_eq!(told(&world), ["people", "store"]);
}

/// Design §3.7: what other connections asked before is covered or refused; a logon that waits for its session waits on and is
/// refused; while Do is under way nothing new is begun, and when it fails life goes on.
#[test]
fn what_meets_a_do() {
    let mut world = World::new();
    let (first, sibling) = (world.member(1), world.connect(1));
    let second = world.logon(sibling);
    world.logoff(second);
    let second = world.logon(sibling);
    assert_eq!(world.query(first.at), Ok(Reply::Done));
    world.hold_profiles = true;
    let waiting = world.ask(sibling, logon_request(Some("work"), LogonFlags::default()));
    world.hold("store", "*");
    let submit = world.submit_request(second, &["b@x"]);
    let submit = world.ask(sibling, Request::Submit(submit));
    let entry = EntryId { store: world.store("default").uid, record: 1 };
    let open = Request::Open { member: second.id, what: Opening::Message(entry) };
    let open = world.ask(sibling, open);
    let id = world.ask_do(first.at);
    let folder = Request::Open { member: second.id, what: Opening::Folder(0, Folder::INBOX) };
    let folder = world.ask(sibling, folder);
    world.settle();
    assert_eq!(world.answer(sibling, folder), None, "it waits for the outcome");
    world.store("default").failures.insert("DoFastShutdown", vec![Code::E_DISK_ERROR].into());
    world.let_go("store");
    assert_eq!(
        world.answer(first.at, id).expect("answered").expect_err("failed").code,
        Code::E_DISK_ERROR
    );
    assert!(world.answer(sibling, submit).expect("before it").is_ok());
    assert_eq!(
        world.answer(sibling, open).expect("answered").expect_err("unknown").code,
        Code::E_NOT_FOUND
    );
    assert!(world.answer(sibling, folder).expect("carried out").is_ok());
    world.open(second, Opening::AddressBook);
    world.hold("store", "OpenEntry");
    let open = Request::Open { member: second.id, what: Opening::Message(entry) };
    let open = world.ask(sibling, open);
    assert_eq!(world.do_fast(first.at), Ok(Reply::Done));
    world.let_all_go();
    let refused = |world: &mut World, id| {
        world.answer(sibling, id).expect("answered").expect_err("refused").code
    };
    assert_eq!(refused(&mut world, waiting), Code::E_NOT_INITIALIZED);
    assert!([Code::E_NOT_INITIALIZED, Code::E_NOT_FOUND].contains(&refused(&mut world, open)));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.advance(secs(60));
    world.assert_empty();
}

/// Design §3.7, §10.10: Do while a logoff of the same process waits for its mail; that logoff ends with the process.
#[test]
fn do_overtakes_a_drain() {
    let mut world = World::new();
    let at = world.connect(1);
    let (drains, other) = (world.logon(at), world.member(2));
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entry = world.submit(drains, "b@x");
    world.draft(drains, "unsaved");
    let logoff = world.ask_logoff(drains, LogoffFlags::default(), Some(secs(60)));
    let flush = world.ask(at, Request::Flush { member: drains.id });
    world.leave_fast(at);
    let code = world.answer(at, logoff).expect("answered").expect_err("it left").code;
    assert_eq!(code, Code::E_NOT_INITIALIZED);
    assert_eq!(world.answer(at, flush), Some(Ok(Reply::Done)));
    world.wire.broken.clear();
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    world.logoff(other);

    // The mail goes out at the very moment: one answer, whichever it is.
    for steps in 0..12 {
        let mut world = World::new();
        let member = world.member(1);
        assert_eq!(world.query(member.at), Ok(Reply::Done));
        world.hold("relay", "*");
        world.hold("store", "*");
        world.submit_deferred(member, "b@x");
        let logoff = world.ask_logoff(member, LogoffFlags::default(), Some(secs(60)));
        let id = world.ask_do(member.at);
        world.clear_holds();
        for n in 0..steps {
            world.step(n);
        }
        world.advance(secs(60));
        assert!(world.answer(member.at, logoff).is_some());
        assert!(world.answer(member.at, id).is_some());
        assert_eq!(world.wire.delivered_to("b@x"), 1);
        world.assert_empty();
    }
}

/// Design §10.10: whatever a process has used up, it can leave; whatever others have in front of a store, too.
#[test]
fn quotas_keep_nobody() {
    let mut settings = settings();
    settings.limits.requests = 3;
    settings.limits.objects = 2;
    settings.limits.members = 1;
    let mut world = World::with(settings);
    let (member, busy) = (world.member(1), world.member(2));
    world.open(member, Opening::Store(0));
    world.draft(member, "unsaved");
    assert_eq!(world.try_open(member, Opening::Store(0)).expect_err("full").code, Code::E_BUSY);
    world.hold("store", "*");
    for _ in 0..3 {
        for member in [member, busy] {
            let submit = world.submit_request(member, &["b@x"]);
            world.ask(member.at, Request::Submit(submit));
        }
    }
    let query = world.ask(member.at, Request::QueryFastShutdown);
    world.ask(member.at, Request::NotifyProcessShutdown);
    world.held_go("store");
    assert_eq!(world.answer(member.at, query), Some(Ok(Reply::Done)));
    world.hold("store", "*");
    let id = world.ask_do(member.at);
    world.let_go("store");
    assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)));
    assert!(world.is_open(member.at));
}

/// SEED-15, design §3.14: a second copy of the library in a program may not shut it down, on whichever connection; with
/// the host's key it may. Everything else it may do.
#[test]
fn an_add_in_may_not() {
    let mut world = World::new();
    let host = world.member(1);
    let add_in = world.connect_with(1, OWNER, [7; 16]);
    let helper = world.connect_with(1, OWNER, [0; 16]);
    let member = world.logon(add_in);
    for request in [
        Request::QueryFastShutdown,
        Request::NotifyProcessShutdown,
        Request::DoFastShutdown { remembered: false },
        Request::DoFastShutdown { remembered: true },
    ] {
        assert_eq!(world.refused(add_in, request), Code::E_NO_ACCESS);
    }
    assert_eq!(world.swept(), []);
    world.open(member, Opening::Store(0));
    assert_eq!(world.query(helper), Ok(Reply::Done));
    assert_eq!(world.do_fast(host.at), Ok(Reply::Done));
    // It is one process: what the host has done is done for the add-in.
    assert_eq!(world.query(add_in).expect_err("over").code, Code::E_NOT_INITIALIZED);
}

/// Design §10.1, §10.9: a connection that breaks while the process's Do is under way takes nothing with it.
#[test]
fn a_crash_in_the_middle_of_do() {
    for (first_breaks, second_breaks) in [(true, false), (false, true), (true, true)] {
        let mut world = World::new();
        let (first, second) = (world.member(1), world.member(1));
        let other = world.member(2);
        world.advise(other, Events::EXTENDED);
        for member in [first, second] {
            world.draft(member, "unsaved");
        }
        assert_eq!(world.query(first.at), Ok(Reply::Done));
        world.hold("store", "*");
        for member in [first, second] {
            world.submit_deferred(member, "b@x");
        }
        let id = world.ask_do(first.at);
        world.settle();
        if first_breaks {
            world.disconnect(first.at);
        }
        if second_breaks {
            world.disconnect(second.at);
        }
        world.let_go("store");
        if !first_breaks {
            assert_eq!(world.answer(first.at, id), Some(Ok(Reply::Done)), "it need not wait");
        }
        assert_eq!(world.news(other).len(), 2);
        assert_eq!(world.in_folder("default", Folder::DRAFTS), 2);
        assert_eq!(world.wire.delivered_to("b@x"), 2);
        world.end_process(1);
        world.logoff(other);
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// SEED-9, design §3.10: a process that dies with the answer to its Do has left by Do: others are told that, once.
#[test]
fn who_dies_with_the_answer_has_left() {
    let mut world = with(Shutdown { shared_logoff: SharedLogoff::Any, ..Shutdown::default() });
    let (leaves, other) = (world.member(1), world.member(2));
    world.advise(other, Events::EXTENDED);
    world.advise(leaves, Events::all());
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    let id = world.ask_do(leaves.at);
    while world.answer(leaves.at, id).is_none() {
        assert!(world.step(0));
    }
    // Between the answer and the tear-down.
    let submit = world.submit_request(other, &["b@x"]);
    let id = world.ask(other.at, Request::Submit(submit));
    while world.answer(other.at, id).is_none() {
        assert!(world.step(0));
    }
    assert_eq!(world.news(leaves), [], "whoever has left is not told");
    world.logoff_shared(other);
    assert_eq!(world.critical_errors(leaves), 0, "whoever has left is not told");
    world.disconnect(leaves.at);
    world.end_process(1);
    world.advance(secs(60));
    world.assert_empty();

    let mut world = World::new();
    let (leaves, other) = (world.member(1), world.member(2));
    world.advise(other, Events::EXTENDED);
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    let id = world.ask_do(leaves.at);
    while world.answer(leaves.at, id).is_none() {
        assert!(world.step(0));
    }
    world.end_process(1);
    world.settle();
    assert_eq!(world.news(other), [left(leaves)]);
}

/// Design §3.21, §10.8: a broker that stops, in whatever way, answers whoever is leaving; what it said is durable is.
#[test]
fn do_meets_a_stop() {
    for how in [Stop::Restart, Stop::Final, Stop::Fast, Stop::Now] {
        for hung in ["relay", "people", "store", "nobody"] {
            let mut world = World::new();
            let member = world.member(1);
            world.draft(member, "unsaved");
            assert_eq!(world.query(member.at), Ok(Reply::Done));
            world.hold(hung, "*");
            world.submit_deferred(member, "b@x");
            let id = world.ask_do(member.at);
            world.settle();
            world.stop(how);
            world.advance(secs(62));
            assert_eq!(world.stopped, 1, "{how:?}, {hung}");
            let answer = world.answer(member.at, id);
            let answer = answer.unwrap_or_else(|| panic!("{how:?}, {hung}: no answer"));
            if hung != "store" {
                assert_eq!(world.in_folder("default", Folder::DRAFTS), 1, "{how:?}, {hung}");
                assert_eq!(world.store("default").submissions.len(), 1);
            }
            if hung == "nobody" {
                assert_eq!(answer, Ok(Reply::Done));
            }
            world.assert_empty();
        }
    }
    // A broker that was asked to restart still serves who leaves.
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.draft(other, "unsaved");
    world.stop(Stop::Restart);
    world.leave_fast(member.at);
    world.advance(secs(62));
    assert_eq!(world.stopped, 1);
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
}

/// One of the three of the story below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Fast, on two connections.
    Fast,
    /// By a logoff that waits for its mail.
    Draining,
    /// By a shared logoff.
    Shared,
}

const ORDERS: [[Leaves; 3]; 6] = {
    use Leaves::{Draining, Fast, Shared};
    [
        [Fast, Draining, Shared],
        [Fast, Shared, Draining],
        [Draining, Fast, Shared],
        [Draining, Shared, Fast],
        [Shared, Fast, Draining],
        [Shared, Draining, Fast],
    ]
};

/// SEED-1, SEED-4, SEED-8, SEED-9, SEED-14, SEED-16, A-30, design §3.10, §10.1, §10.2, §10.3: three processes share a
/// session with mail on its way. One leaves fast on two connections, one logs off after its mail, one ends the session for all,
/// in every order, each beginning while providers owe an answer to the one before, or not. Who is told what, what becomes
/// of the session, and what providers are called is always the same.
#[test]
fn three_ways_to_leave_in_every_order() {
    for order in ORDERS {
        for held in ["nobody", "relay", "people", "store"] {
            for steps in 0..4 {
                one_order(order, held, steps);
            }
        }
    }
}

fn one_order(order: [Leaves; 3], held: &str, steps: usize) {
    let case = format!("{order:?}, {held} held, {steps} steps");
    let mut world = with(Shutdown { shared_logoff: SharedLogoff::Any, ..Shutdown::default() });
    world.profile("default").queue.retry_min = secs(5);
    world.script("b@x", &[Step::Says(Outcome::Later); 5]);
    let (a, sibling) = (world.member(1), world.connect(1));
    let a2 = world.logon(sibling);
    let (b, c) = (world.member(2), world.member(3));
    for member in [a, a2, b, c] {
        world.advise(member, Events::EXTENDED);
    }
    assert_eq!(world.query(a.at), Ok(Reply::Done));
    world.draft(a2, "unsaved");
    let mut mail: Vec<_> = [a, a2, b, c].map(|m| world.submit(m, "b@x")).into();
    world.news(b);
    mail.push(world.submit_deferred(a, "b@x"));
    if held != "nobody" {
        world.hold(held, "*");
    }
    let mut asked = Vec::new();
    for leaves in order {
        let (at, id) = match leaves {
            Leaves::Fast => (a.at, world.ask_do(a.at)),
            Leaves::Draining => (b.at, world.ask_logoff(b, LogoffFlags::default(), Some(secs(20)))),
            Leaves::Shared => (c.at, world.ask_logoff(c, LogoffFlags::SHARED, None)),
        };
        asked.push((leaves, at, id));
        for n in 0..steps {
            world.step(n);
        }
        if held == "nobody" {
            world.settle();
        }
    }
    world.let_all_go();
    world.advance(secs(20));
    for (leaves, at, id) in &asked {
        let answer = world.answer(*at, *id).unwrap_or_else(|| panic!("{case}: {leaves:?}"));
        assert!(answer.is_ok(), "{case}: {leaves:?} {answer:?}");
    }
    // The critical error reaches those who were there when the session was ended, once; the one who ended it never.
    let place = |l| order.iter().position(|o| *o == l).expect("it is one of them");
    let after = |l| place(l) > place(Leaves::Shared);
    for (member, leaves) in [(a, Leaves::Fast), (a2, Leaves::Fast), (b, Leaves::Draining)] {
        let news = world.news(member);
        let critical = news.iter().filter(|n| matches!(n, News::CriticalError { .. })).count();
        if after(leaves) {
            assert_eq!(critical, 1, "{case}: {leaves:?}");
        } else {
            assert!(critical <= 1, "{case}: {leaves:?}");
        }
        if held == "nobody" && leaves == Leaves::Fast && !after(leaves) {
            assert_eq!(critical, 0, "{case}: whoever has left is not told");
        }
        for other in [a, a2, b, c] {
            let times = news.iter().filter(|n| {
                matches!(n, News::MemberLeft { member: m, reason } if *m == other.id
                    && (*reason == LeaveReason::FastShutdown) == (other == a || other == a2))
            });
            let any = news
                .iter()
                .filter(|n| matches!(n, News::MemberLeft { member: m, .. } if *m == other.id));
            let (times, any) = (times.count(), any.count());
            assert!(times == any && times <= 1, "{case}: {news:?}");
        }
    }
    assert!(!world.news(c).iter().any(|n| matches!(n, News::CriticalError { .. })), "{case}");
    // Whoever leaves fast is the only one for whom providers are called, in their order, once.
    let told: Vec<_> =
        world.swept().into_iter().filter(|(_, _, c)| *c == "DoFastShutdown").collect();
    let told: Vec<_> = told.iter().map(|(s, p, _)| (*s, p.as_str())).collect();
    let wanted = ["relay", "people", "store"].map(|p| (a.session, p));
    assert_eq!(told, wanted, "{case}");
    // The session is over when its members have left, and what was handed over is there.
    world.advance(secs(60));
    let logoffs: Vec<_> = world.order_of("Logoff");
    assert_eq!(logoffs[..3], ["relay", "people", "store"], "{case}");
    for entry in mail {
        assert_eq!(world.state(entry), SubmissionState::Sent, "{case}");
    }
    assert_eq!(world.wire.delivered_to("b@x"), 5, "{case}");
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1, "{case}");
    for at in [a.at, sibling, b.at, c.at] {
        world.disconnect(at);
    }
    world.end_process(1);
    world.advance(secs(60));
    world.assert_empty();
}

/// Design §10.8: a broker whose machine slept while somebody left fast wakes up with every deadline over, and goes on.
#[test]
fn deadlines_may_all_be_over_at_once() {
    let mut world = World::new();
    let member = world.member(1);
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.hold("relay", "*");
    let id = world.ask_do(member.at);
    world.settle();
    world.oversleep(secs(60));
    let fault = world.answer(member.at, id).expect("answered").expect_err("too late");
    assert_eq!(fault.code, Code::E_TIMEOUT);
    world.let_go("relay");
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
}

/// Design §3.8, §10.9: what a process handed over is waited for although its member was put out and its session is over: a
/// deferred submission, a draft that is being recovered. If it is lost, Do says so, once.
#[test]
fn what_gone_members_handed_over_counts() {
    for lost in [None, Some("SubmitMessage"), Some("SaveChanges")] {
        let mut world = with(Shutdown { grace: Some(secs(1)), ..Shutdown::default() });
        let (ends, member) = (world.member(2), world.member(1));
        assert_eq!(world.query(member.at), Ok(Reply::Done));
        world.draft(member, "unsaved");
        world.hold("store", "*");
        world.submit_deferred(member, "b@x");
        world.ask_logoff(ends, LogoffFlags::SHARED, None);
        world.advance(secs(20));
        assert!(!world.broker.sessions.members.contains_key(&member.id), "it was put out");
        if let Some(call) = lost {
            world.store("default").failures.insert(call, vec![Code::E_DISK_ERROR].into());
        }
        let id = world.ask_do(member.at);
        world.settle();
        assert_eq!(world.answer(member.at, id), None, "{lost:?}");
        world.let_go("store");
        let answer = world.answer(member.at, id).expect("answered");
        if lost.is_some() {
            let fault = answer.expect_err("something is lost");
            assert_eq!((fault.code, entries_of(&fault).len()), (Code::E_DISK_ERROR, 1));
            assert_eq!(world.do_fast(member.at), Ok(Reply::Done), "it is said once");
        } else {
            assert_eq!(answer, Ok(Reply::Done));
            assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
        }
    }
    // One that is never stored makes Do fail in its time.
    let mut world = World::new();
    let at = world.connect(1);
    let sibling = world.connect(1);
    let member = world.logon(sibling);
    assert_eq!(world.query(at), Ok(Reply::Done));
    world.draft(member, "unsaved");
    world.hold("store", "*");
    world.disconnect(member.at);
    let id = world.ask_do(at);
    world.advance(millis(9_999));
    assert_eq!(world.answer(at, id), None);
    world.advance(millis(1));
    assert_eq!(world.answer(at, id).expect("answered").expect_err("late").code, Code::E_TIMEOUT);
    world.let_go("store");
    assert_eq!(world.do_fast(at), Ok(Reply::Done));
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
}

/// Design §3.8, §10.9: the same of a process whose only connection broke before it was ever asked, and which comes back. Until
/// a store has answered it is not forgotten, and then it is.
#[test]
fn what_a_process_without_connections_handed_over_counts() {
    for (back_early, lost) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        let member = world.member(1);
        world.hold("store", "*");
        let entry = world.submit_deferred(member, "b@x");
        if lost {
            let failures = vec![Code::E_DISK_ERROR];
            world.store("default").failures.insert("SubmitMessage", failures.into());
        }
        world.disconnect(member.at);
        let early = back_early.then(|| world.connect(1));
        world.let_go("store");
        let at = early.unwrap_or_else(|| {
            assert_eq!(world.broker.peers.processes.iter().count(), usize::from(lost));
            world.connect(1)
        });
        assert_eq!(world.query(at), Ok(Reply::Done));
        if lost {
            let fault = world.do_fast(at).expect_err("something is lost");
            assert_eq!((fault.code, entries_of(&fault)), (Code::E_DISK_ERROR, vec![entry]));
        }
        assert_eq!(world.do_fast(at), Ok(Reply::Done), "early {back_early}, lost {lost}");
        assert_eq!(world.wire.delivered_to("b@x"), usize::from(!lost));
    }
}

/// Design §10.9: what is lost is said to somebody. If whoever asked is gone when the answer comes, the next Do says it.
#[test]
fn what_is_lost_is_said_to_one_who_hears_it() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.connect(1));
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.hold("store", "*");
    let entry = world.submit_deferred(member, "b@x");
    let failures = vec![Code::E_DISK_ERROR];
    world.store("default").failures.insert("SubmitMessage", failures.into());
    world.ask_do(member.at);
    world.settle();
    world.disconnect(member.at);
    world.let_go("store");
    let fault = world.do_fast(other).expect_err("something is lost");
    assert_eq!((fault.code, entries_of(&fault)), (Code::E_DISK_ERROR, vec![entry]));
    assert_eq!(world.do_fast(other), Ok(Reply::Done), "it is said once");
}

/// Design §3.6: `MAPI_E_NOT_INITIALIZED` says that the process has left. A Do that fails never says so, whatever a provider does.
#[test]
fn a_do_that_fails_is_not_over() {
    for call in ["SaveChanges", "DoFastShutdown"] {
        let mut world = World::new();
        let member = world.member(1);
        world.draft(member, "unsaved");
        assert_eq!(world.query(member.at), Ok(Reply::Done));
        world.store("default").failures.insert(call, [Code::E_NOT_INITIALIZED].into());
        assert_eq!(world.do_fast(member.at).expect_err("it failed").code, Code::E_CALL_FAILED);
        assert_eq!(world.do_fast(member.at), Ok(Reply::Done), "{call}");
    }
}

/// SEED-9: what a process hands over while another one's Do is at the store is stored, also where that Do ends the store for good
/// and is not answered in time.
#[test]
fn what_is_handed_over_behind_a_do_is_stored() {
    let mut world = World::new();
    world.literal.insert("store".into());
    let (leaves, stays) = (world.member(1), world.member(2));
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    world.silence("store", "DoFastShutdown");
    world.ask_do(leaves.at);
    world.settle();
    let entry = world.submit_deferred(stays, "b@x");
    world.advance(secs(10));
    world.let_go("store");
    world.done(stays.at, Request::Flush { member: stays.id });
    assert_eq!(world.wire.delivered_to("b@x"), 1, "{entry}");
    world.leave_fast(stays.at);
}

/// Design §3.6: a provider that is configured and not logged on cannot be asked. The administrator's word on it counts all the same, and so
/// does what it said while it was logged on.
#[test]
fn the_word_on_a_provider_that_is_out_counts() {
    use crate::provider::FastShutdown::Absent;
    use crate::provider::FastShutdown::Refused;
    use crate::provider::FastShutdown::Supported;
    for (word, behaviour, accepted) in [
        (Supported, OptIn, true),
        (Refused, OptIn, false),
        (Refused, OptOut, false),
        (Absent, OptIn, false),
        (Absent, OptOut, true),
    ] {
        let mut world = behaving(behaviour);
        world.profile("default").transports[0].provider.fast_shutdown = word;
        world.hold("relay", "Logon");
        let at = world.connect(1);
        let asked = world.ask(at, logon_request(None, LogonFlags::default()));
        world.advance(secs(31));
        assert!(world.answer(at, asked).expect("answered").is_ok(), "the relay is out");
        assert_eq!(world.query(at).is_ok(), accepted, "{word:?}, {behaviour:?}");
        assert_eq!(world.carried_out("relay", "QueryFastShutdown"), 0);
    }
    let mut world = behaving(OptIn);
    world.wire.facts = TransportFacts { longest: secs(30), ..TransportFacts::default() };
    world.interfaces.insert("relay".into(), Interface::Refuses(Code::E_NO_SUPPORT));
    let (first, second) = (world.member(1), world.member(2));
    assert!(world.query(first.at).is_err());
    world.hold("relay", "*");
    world.submit(second, "b@x");
    world.advance(secs(36));
    assert_eq!(world.hanging.len(), 1, "the relay gets another worker");
    assert!(world.query(second.at).is_err(), "it has refused before");
}
