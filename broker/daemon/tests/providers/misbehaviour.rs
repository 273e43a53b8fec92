//! One provider misbehaves in one of the three calls: who is told what, and what becomes of the others.

use std::time::Duration;

use sundown_protocol::request::{LogonFlags, Request};
use sundown_protocol::{Code, Reply};

use super::broker::{Broker, Client, PROFILE, refused};
use super::probe::{Act, Call, Interface, Plan, Probes};

/// The providers of the profile, in the order in which they are called.
const NAMES: [&str; 3] = ["transport", "book", "store"];

/// Codes that a provider may refuse with. Any error is a no.
const CODES: [Code; 6] = [
    Code::E_NO_SUPPORT,
    Code::E_CALL_FAILED,
    Code::E_NO_ACCESS,
    Code::E_NOT_INITIALIZED,
    Code::E_TIMEOUT,
    Code::E_USER_CANCEL,
];

/// Two processes of one session.
fn neighbours(broker: &Broker) -> (Client, Client) {
    let (mut leaves, mut stays) = (broker.process(1), broker.process(2));
    leaves.logon(LogonFlags::default());
    stays.logon(LogonFlags::default());
    (leaves, stays)
}

/// The neighbour's mail goes out.
fn works(stays: &mut Client, broker: &Broker) {
    let sent = broker.log.count("sent");
    stays.submit("Subject: x\n\nx\n");
    broker.log.until_times("sent", sent + 1);
}

/// Every provider was called, in order.
fn called(call: Call) -> Vec<String> {
    NAMES.iter().map(|name| format!("{name} {}", call.name())).collect()
}

fn failures() -> Vec<Act> {
    CODES.into_iter().map(Act::Refuses).chain([Act::Panics]).collect()
}

/// SEED-10, SEED-12, SEED-16, CFG-5: an error in Query, whatever its code, and a panic are a no; the others are asked
/// all the same. The verdict holds for the process, and the neighbour is as before.
#[test]
fn an_error_in_query_is_a_no() {
    for name in NAMES {
        for act in failures() {
            let probes = Probes::of(name, Plan::default().on(Call::Query, [act.clone()]));
            let broker = Broker::with(&probes, PROFILE);
            let (mut leaves, mut stays) = neighbours(&broker);
            assert_eq!(refused(leaves.query()), [name], "{act:?}");
            assert_eq!(broker.calls(), called(Call::Query), "{act:?} in {name}");
            works(&mut stays, &broker);
            assert_eq!(refused(leaves.query()), [name], "{act:?}");
            assert_eq!(leaves.do_fast().expect_err("refused").code, Code::E_NO_SUPPORT);
            leaves.logoff();
            works(&mut stays, &broker);
        }
    }
}

/// SEED-13, SEED-16, SEED-19: an error in Notify stops nothing: the others are told, and a Do may follow.
#[test]
fn an_error_in_notify_changes_nothing() {
    for name in NAMES {
        for act in failures() {
            let probes = Probes::of(name, Plan::default().on(Call::Notify, [act.clone()]));
            let broker = Broker::with(&probes, PROFILE);
            let (mut leaves, mut stays) = neighbours(&broker);
            leaves.done(Request::NotifyProcessShutdown);
            assert_eq!(broker.calls(), called(Call::Notify), "{act:?} in {name}");
            works(&mut stays, &broker);
            assert_eq!(leaves.query(), Ok(Reply::Done), "{act:?} in {name}");
            assert_eq!(leaves.do_fast(), Ok(Reply::Done), "{act:?} in {name}");
            works(&mut stays, &broker);
        }
    }
}

/// SEED-16, SEED-20, design §3.8: an error of a transport or an address book in Do decides nothing. A store's keeps
/// the process here, with everything that it has; the Do can be repeated.
#[test]
fn an_error_in_do_counts_if_it_is_a_stores() {
    for name in NAMES {
        for act in failures() {
            let once = [act.clone(), Act::Answers];
            let probes = Probes::of(name, Plan::default().on(Call::Do, once));
            let broker = Broker::with(&probes, PROFILE);
            let (mut leaves, mut stays) = neighbours(&broker);
            assert_eq!(leaves.query(), Ok(Reply::Done));
            let done = leaves.do_fast();
            assert_eq!(broker.calls()[3..], called(Call::Do), "{act:?} in {name}");
            works(&mut stays, &broker);
            if name == "store" {
                assert!(done.is_err(), "{act:?}: {done:?}");
                works(&mut leaves, &broker);
                assert_eq!(leaves.do_fast(), Ok(Reply::Done), "{act:?}");
            } else {
                assert_eq!(done, Ok(Reply::Done), "{act:?} in {name}");
            }
            works(&mut stays, &broker);
        }
    }
}

/// SEED-16: a provider that takes its time has it: the next kind is called when it has answered.
#[test]
fn a_slow_provider_is_waited_for() {
    let slow = [Act::Takes(Duration::from_millis(100))];
    for name in NAMES {
        let mut plan = Plan::default();
        for call in Call::ALL {
            plan = plan.on(call, slow.clone());
        }
        let broker = Broker::with(&Probes::of(name, plan), PROFILE);
        let (mut leaves, mut stays) = neighbours(&broker);
        assert_eq!(leaves.query(), Ok(Reply::Done), "{name}");
        leaves.done(Request::NotifyProcessShutdown);
        assert_eq!(leaves.do_fast(), Ok(Reply::Done), "{name}");
        let calls = Call::ALL.iter().flat_map(|call| NAMES.map(|n| format!("{n} {}", call.name())));
        let wanted: Vec<_> =
            calls.flat_map(|call| [call.clone(), format!("{call} ends")]).collect();
        assert_eq!(broker.spans(), wanted, "{name}");
        works(&mut stays, &broker);
    }
}

/// SEED-10, SEED-13: a provider without the interface refuses by that, and is not called; the others are.
#[test]
fn without_the_interface_nothing_is_called() {
    for name in NAMES {
        for interface in [Interface::Absent, Interface::Panics] {
            let broker = Broker::with(&Probes::of(name, Plan::with(interface)), PROFILE);
            let (mut leaves, mut stays) = neighbours(&broker);
            assert_eq!(refused(leaves.query()), [name], "{interface:?}");
            leaves.done(Request::NotifyProcessShutdown);
            let others = NAMES.iter().filter(|other| **other != name);
            let of = |call: Call| others.clone().map(move |n| format!("{n} {}", call.name()));
            let wanted: Vec<_> = of(Call::Query).chain(of(Call::Notify)).collect();
            assert_eq!(broker.calls(), wanted, "{interface:?} of {name}");
            works(&mut stays, &broker);
        }
    }
}

/// SEED-9: the neighbour's mail goes out while one of the three calls hangs in an address book.
#[test]
fn the_neighbours_mail_goes_out_meanwhile() {
    for call in Call::ALL {
        let probes = Probes::default();
        let gate = probes.gate();
        let probes = probes.and("book", Plan::default().on(call, [Act::Hangs(gate.clone())]));
        let broker = Broker::with(&probes, PROFILE);
        let (mut leaves, mut stays) = neighbours(&broker);
        if call == Call::Do {
            assert_eq!(leaves.query(), Ok(Reply::Done));
        }
        let asked = leaves.ask(match call {
            Call::Query => Request::QueryFastShutdown,
            Call::Notify => Request::NotifyProcessShutdown,
            Call::Do => Request::DoFastShutdown { remembered: false },
        });
        broker.log.until(&format!("book {}", call.name()));
        works(&mut stays, &broker);
        works(&mut stays, &broker);
        gate.open();
        let answer = leaves.answer(asked);
        // On a slow machine the query may have been given up meanwhile.
        let given_up = call == Call::Query && answer.is_err();
        assert!(answer == Ok(Reply::Done) || given_up, "{call:?}: {answer:?}");
        works(&mut stays, &broker);
    }
}

/// SEED-16, SEED-20, design §3.6: a transport that hangs in Do is waited for until half of the time is over. Then the
/// address book is called, then the store, and the process leaves.
#[test]
fn a_transport_that_hangs_in_do_is_left_behind() {
    let probes = Probes::default();
    let gate = probes.gate();
    let probes = probes.and("transport", Plan::default().on(Call::Do, [Act::Hangs(gate.clone())]));
    let broker =
        Broker::with_settings(&probes, PROFILE, "[shutdown]\nshutdown_deadline = \"2s\"\n");
    let (mut leaves, mut stays) = neighbours(&broker);
    assert_eq!(leaves.query(), Ok(Reply::Done));
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let wanted = ["transport do", "book do", "book do ends", "store do", "store do ends"];
    assert_eq!(broker.spans()[6..], wanted);
    gate.open();
    works(&mut stays, &broker);
}
