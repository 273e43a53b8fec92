//! The order of a sweep when a provider hangs, what holds for a store that several sessions use, and what a process is told
//! while its Do runs.

use std::time::Duration;

use sundown_protocol::request::{LogonFlags, Request};
use sundown_protocol::{Code, Reply};

use super::broker::{Broker, Client, PROFILE, refused};
use super::probe::{Act, Call, Plan, Probes};

/// Two processes, each with a session of its own. Both sessions use one store object.
fn apart(broker: &Broker) -> (Client, Client) {
    let (mut first, mut second) = (broker.process(1), broker.process(2));
    first.logon(LogonFlags::NEW_SESSION);
    second.logon(LogonFlags::NEW_SESSION);
    (first, second)
}

/// Two processes of one session.
fn together(broker: &Broker) -> (Client, Client) {
    let (mut first, mut second) = (broker.process(1), broker.process(2));
    first.logon(LogonFlags::default());
    second.logon(LogonFlags::default());
    (first, second)
}

/// Mail of this process goes out.
fn works(client: &mut Client, broker: &Broker) {
    let sent = broker.log.count("sent");
    client.submit("Subject: x\n\nx\n");
    broker.log.until_times("sent", sent + 1);
}

const TWO_SECONDS: &str = "[shutdown]\nshutdown_deadline = \"2s\"\n";

/// SEED-16: a transport that hangs in Notify is not called by the Do that follows: not before the others, not behind the
/// answer, and not when it comes back.
#[test]
fn what_was_given_up_never_arrives_late() {
    let probes = Probes::default();
    let gate = probes.gate();
    let hangs = Plan::default().on(Call::Notify, [Act::Hangs(gate.clone())]);
    let probes = probes.and("transport", hangs);
    let broker = Broker::with_settings(&probes, PROFILE, TWO_SECONDS);
    let (mut leaves, mut stays) = together(&broker);
    assert_eq!(leaves.query(), Ok(Reply::Done));
    leaves.done(Request::NotifyProcessShutdown);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    gate.open();
    // The transport takes calls in order: what it was to do before the neighbour's mail it has done now.
    works(&mut stays, &broker);
    let wanted = [
        "transport query",
        "book query",
        "store query",
        "transport notify",
        "book notify",
        "store notify",
        "book do",
        "store do",
    ];
    assert_eq!(broker.calls(), wanted);
}

/// SEED-16: the time that a transport has lost is not taken from the address book: the store is called when the book has
/// answered.
#[test]
fn each_kind_has_its_share() {
    for call in [Call::Query, Call::Notify, Call::Do] {
        let probes = Probes::default();
        let gate = probes.gate();
        let hangs = Plan::default().on(call, [Act::Hangs(gate.clone())]);
        // A quarter of the sweep is the address book's: of a second, or of two.
        let takes = Duration::from_millis(if call == Call::Do { 300 } else { 100 });
        let slow = Plan::default().on(call, [Act::Takes(takes)]);
        let probes = probes.and("transport", hangs).and("book", slow);
        let broker = Broker::with_settings(&probes, PROFILE, TWO_SECONDS);
        let (mut leaves, mut stays) = together(&broker);
        match call {
            Call::Query => assert_eq!(refused(leaves.query()), ["transport"]),
            Call::Notify => leaves.done(Request::NotifyProcessShutdown),
            Call::Do => {
                assert_eq!(leaves.query(), Ok(Reply::Done));
                assert_eq!(leaves.do_fast(), Ok(Reply::Done));
            }
        }
        let word = call.name();
        let spans = broker.spans();
        let of_call: Vec<_> = spans.iter().filter(|line| line.contains(word)).collect();
        let wanted = ["transport", "book", "book ends", "store", "store ends"].map(|line| {
            let (name, ends) = line.split_once(' ').map_or((line, ""), |(name, _)| (name, " ends"));
            format!("{name} {word}{ends}")
        });
        assert_eq!(of_call, wanted.iter().collect::<Vec<_>>(), "{call:?}");
        gate.open();
        works(&mut stays, &broker);
    }
}

/// SEED-17: the first answer of a store object holds for all processes that use it, in one session and in several.
#[test]
fn a_stores_first_answer_holds_for_every_process() {
    let no = Act::Refuses(Code::E_NO_SUPPORT);
    for processes in [together, apart] {
        let changes = Plan::default().on(Call::Query, [no.clone(), Act::Answers]);
        let broker = Broker::with(&Probes::of("store", changes), PROFILE);
        let (mut first, mut second) = processes(&broker);
        assert_eq!(refused(first.query()), ["store"]);
        assert_eq!(refused(second.query()), ["store"]);
        works(&mut second, &broker);

        let changes = Plan::default().on(Call::Query, [Act::Answers, no.clone()]);
        let broker = Broker::with(&Probes::of("store", changes), PROFILE);
        let (mut first, mut second) = processes(&broker);
        assert_eq!(first.query(), Ok(Reply::Done));
        assert_eq!(second.query(), Ok(Reply::Done));
        assert_eq!(first.do_fast(), Ok(Reply::Done));
        works(&mut second, &broker);
        assert_eq!(second.do_fast(), Ok(Reply::Done));
    }
}

/// SEED-14, design §3.7: what a process asks on another connection while its Do runs waits for the outcome.
#[test]
fn requests_beside_a_do_wait_for_its_outcome() {
    let outcomes = [Act::Answers, Act::Refuses(Code::E_DISK_ERROR)];
    for outcome in outcomes {
        let succeeds = matches!(outcome, Act::Answers);
        let probes = Probes::default();
        let gate = probes.gate();
        let first = Act::Waits(gate.clone(), Box::new(outcome));
        let plan = Plan::default().on(Call::Do, [first, Act::Answers]);
        let probes = probes.and("store", plan);
        let broker = Broker::with(&probes, PROFILE);
        let (mut leaves, mut stays) = together(&broker);
        let mut beside = broker.process(1);
        assert_eq!(leaves.query(), Ok(Reply::Done));
        let doing = leaves.ask(Request::DoFastShutdown { remembered: false });
        broker.log.until("store do");
        let asked = beside.ask(Request::Status);
        let joins = beside.ask(Request::DoFastShutdown { remembered: false });
        // What was written before one answer of the loop is read before the next.
        for _ in 0..2 {
            assert!(stays.call(Request::Status).is_ok());
        }
        gate.open();
        if succeeds {
            assert_eq!(leaves.answer(doing), Ok(Reply::Done));
            assert_eq!(beside.answer(joins), Ok(Reply::Done));
            assert_eq!(beside.answer(asked).expect_err("it left").code, Code::E_NOT_INITIALIZED);
        } else {
            assert_eq!(leaves.answer(doing).expect_err("it fails").code, Code::E_DISK_ERROR);
            assert_eq!(beside.answer(joins).expect_err("it fails").code, Code::E_DISK_ERROR);
            assert!(beside.answer(asked).is_ok());
            works(&mut leaves, &broker);
        }
        works(&mut stays, &broker);
        assert_eq!(broker.calls().iter().filter(|line| *line == "store do").count(), 1);
    }
}

/// SEED-20: a Do that is repeated after a store's error calls only what has not answered it.
#[test]
fn a_repeated_do_calls_nobody_twice() {
    let once = [Act::Refuses(Code::E_DISK_ERROR), Act::Answers];
    let broker = Broker::with(&Probes::of("store", Plan::default().on(Call::Do, once)), PROFILE);
    let (mut leaves, mut stays) = together(&broker);
    assert_eq!(leaves.query(), Ok(Reply::Done));
    assert_eq!(leaves.do_fast().expect_err("it fails").code, Code::E_DISK_ERROR);
    works(&mut leaves, &broker);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    assert_eq!(broker.calls()[3..], ["transport do", "book do", "store do", "store do"]);
    works(&mut stays, &broker);
}

/// SEED-9, SEED-17: a provider that shuts down for good at the Do of one process, as the founding text says to the letter,
/// is made anew for the others, and its answer to Query is still the first.
#[test]
fn a_provider_that_is_over_is_made_anew() {
    for name in ["transport", "book", "store"] {
        for in_one_session in [true, false] {
            let plan = Plan::default()
                .on(Call::Do, [Act::IsOver])
                .on(Call::Query, [Act::Answers, Act::Refuses(Code::E_NO_SUPPORT)]);
            let broker = Broker::with(&Probes::of(name, plan), PROFILE);
            let (mut leaves, mut stays) =
                if in_one_session { together(&broker) } else { apart(&broker) };
            works(&mut stays, &broker);
            assert_eq!(leaves.query(), Ok(Reply::Done));
            if name == "store" {
                assert_eq!(stays.query(), Ok(Reply::Done), "it is one object for both");
            }
            assert_eq!(leaves.do_fast(), Ok(Reply::Done));
            works(&mut stays, &broker);
            assert!(stays.lists_people());
            works(&mut stays, &broker);
            let mut later = broker.process(3);
            later.logon(LogonFlags::default());
            works(&mut later, &broker);
            if in_one_session {
                assert_eq!(stays.query(), Ok(Reply::Done), "{name} has answered before");
            }
        }
    }
}

/// SEED-9: also where nobody is there when the process leaves, and the next one comes before the store is closed.
#[test]
fn a_provider_that_is_over_serves_the_next_process() {
    for name in ["transport", "book", "store"] {
        let plan = Plan::default().on(Call::Do, [Act::IsOver]);
        let broker = Broker::with(&Probes::of(name, plan), PROFILE);
        let mut leaves = broker.process(1);
        leaves.logon(LogonFlags::default());
        works(&mut leaves, &broker);
        assert_eq!(leaves.query(), Ok(Reply::Done));
        assert_eq!(leaves.do_fast(), Ok(Reply::Done));
        let mut next = broker.process(2);
        next.logon(LogonFlags::default());
        works(&mut next, &broker);
        assert!(next.lists_people());
    }
}

/// SEED-19, SEED-9: also one that shuts down for good at a notice; the process that gave it may go on, too.
#[test]
fn a_provider_that_a_notice_ends_is_made_anew() {
    for name in ["transport", "book", "store"] {
        let plan = Plan::default().on(Call::Notify, [Act::IsOver]);
        let broker = Broker::with(&Probes::of(name, plan), PROFILE);
        let (mut notifies, mut stays) = together(&broker);
        notifies.done(Request::NotifyProcessShutdown);
        for client in [&mut stays, &mut notifies] {
            works(client, &broker);
            assert!(client.lists_people(), "{name}");
        }
        assert_eq!(notifies.query(), Ok(Reply::Done), "{name}");
        assert_eq!(notifies.do_fast(), Ok(Reply::Done), "{name}");
        works(&mut stays, &broker);
    }
}
