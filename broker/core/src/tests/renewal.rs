//! Providers that shut down for good at one process's Do, as the interface's letter allows: the neighbours go on.

use sundown_protocol::reply::{Reply, TableRows};
use sundown_protocol::request::{AddressAction, Folder, Opening, Request};
use sundown_protocol::{Code, Events};

use super::fakes::Interface;
use super::world::{World, secs};
use crate::provider::ProviderCall;

fn literal(provider: &str) -> World {
    let mut world = World::new();
    world.literal.insert(provider.into());
    world
}

/// SEED-9: a store that is over after one process's Do is made anew, and the neighbour's submissions, reads and drafts work.
#[test]
fn a_store_that_is_over_is_made_anew() {
    let mut world = literal("store");
    let (leaves, stays) = (world.member(1), world.member(2));
    world.advise(stays, Events::NEW_MAIL);
    let before = world.submit(leaves, "b@x");
    world.draft(leaves, "unsaved");
    world.leave_fast(leaves.at);
    assert!(world.is_over("store"));
    // A read and a write at once, by two lanes.
    let list = world.open(stays, Opening::Folder(0, Folder::DRAFTS));
    let list = Request::List { member: stays.id, object: list, after: 0, limit: 9 };
    let read = world.ask(stays.at, list);
    let submit = world.submit_request(stays, &["c@x"]);
    let write = world.ask(stays.at, Request::Submit(submit));
    world.settle();
    assert!(
        matches!(world.answer(stays.at, read), Some(Ok(Reply::Rows(rows))) if matches!(&rows.rows, TableRows::Messages(rows) if rows.len() == 1))
    );
    assert!(matches!(world.answer(stays.at, write), Some(Ok(Reply::Submitted { .. }))));
    assert!(!world.is_over("store"), "it was made anew");
    assert_eq!(world.calls_of("store").iter().filter(|call| **call == "Renew").count(), 1, "once");
    assert_eq!(world.wire.delivered_to("c@x"), 1);
    assert_eq!(world.wire.delivered_to("b@x"), 1, "{before}");
    world.logoff(stays);
    world.advance(secs(60));
    world.assert_empty();
}

/// SEED-9, SEED-17: a transport and an address book likewise; what the provider said first of fast shutdown stays.
#[test]
fn others_go_on_and_the_stance_stays() {
    for provider in ["relay", "people"] {
        let mut world = literal(provider);
        let (leaves, stays) = (world.member(1), world.member(2));
        let book = world.open(stays, Opening::AddressBook);
        world.leave_fast(leaves.at);
        world.interfaces.insert(provider.into(), Interface::Refuses(Code::E_NO_SUPPORT));
        world.submit(stays, "b@x");
        world.settle();
        assert_eq!(world.wire.delivered_to("b@x"), 1, "{provider}");
        let action = AddressAction::Add { name: "bo".into(), addresses: vec!["bo@x".into()] };
        let add = Request::AddressBook { member: stays.id, object: book, action };
        assert!(matches!(world.call(stays.at, add), Ok(Reply::Added(_))), "{provider}");
        assert_eq!(world.query(stays.at), Ok(Reply::Done), "{provider}: its first answer was yes");
        world.logoff(stays);
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// A provider that fails in its Do may be over, too.
#[test]
fn a_do_that_failed_is_no_better() {
    let mut world = literal("store");
    let (fails, stays) = (world.member(1), world.member(2));
    assert_eq!(world.query(fails.at), Ok(Reply::Done));
    world.store("default").failures.insert("DoFastShutdown", vec![Code::E_DISK_ERROR].into());
    assert_eq!(world.do_fast(fails.at).expect_err("it failed").code, Code::E_DISK_ERROR);
    world.submit(stays, "b@x");
    world.settle();
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// A provider that cannot be made anew fails the calls that wait for that, and the next call tries again.
#[test]
fn what_cannot_be_made_anew_fails_and_is_tried_again() {
    let mut world = literal("relay");
    let (leaves, stays) = (world.member(1), world.member(2));
    world.leave_fast(leaves.at);
    world.wire.steps.insert("relay.Renew".into(), vec![super::fakes::Step::Refuses].into());
    let entry = world.submit(stays, "b@x");
    world.settle();
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    world.advance(secs(3_600));
    assert_eq!(world.wire.delivered_to("b@x"), 1, "{entry} goes out later");
    world.logoff(stays);
    world.advance(secs(60));
    world.assert_empty();
}

/// SEED-9: nobody else is there when the process leaves. The next one logs on before the store is closed, and finds it made
/// anew.
#[test]
fn the_next_process_finds_a_store_that_is_whole() {
    let mut world = literal("store");
    let leaves = world.member(1);
    world.leave_fast(leaves.at);
    world.disconnect(leaves.at);
    world.advance(secs(1));
    assert!(world.is_over("store"));
    let next = world.member(2);
    assert!(!world.is_over("store"), "it was made anew");
    world.submit(next, "b@x");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// SEED-19, SEED-9: what a transport or an address book stops for good at a notice it stops for the process that gave it. The
/// neighbours go on, and so does that process until it leaves.
#[test]
fn a_notice_may_end_a_provider_too() {
    for provider in ["relay", "people", "store"] {
        let mut world = literal(provider);
        world.over_at = ProviderCall::NotifyProcessShutdown;
        let (notifies, stays) = (world.member(1), world.member(2));
        let book = world.open(stays, Opening::AddressBook);
        world.notify(notifies.at);
        assert!(world.is_over(provider));
        for (n, member) in [(1, stays), (2, notifies)] {
            world.submit(member, "b@x");
            assert_eq!(world.wire.delivered_to("b@x"), n, "{provider}");
        }
        let action = AddressAction::Add { name: "bo".into(), addresses: vec!["bo@x".into()] };
        let add = Request::AddressBook { member: stays.id, object: book, action };
        assert!(matches!(world.call(stays.at, add), Ok(Reply::Added(_))), "{provider}");
        assert!(!world.is_over(provider), "{provider} was made anew");
        world.leave_fast(notifies.at);
        world.logoff(stays);
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// What waits for a provider that is made anew does not wait without an end: a request is told so, a transport gets another worker.
#[test]
fn a_provider_that_is_not_made_anew_in_time_fails() {
    let mut world = literal("store");
    let (leaves, stays) = (world.member(1), world.member(2));
    world.leave_fast(leaves.at);
    world.hold("store", "Renew");
    let submit = world.submit_request(stays, &["c@x"]);
    let asked = world.ask(stays.at, Request::Submit(submit));
    world.advance(secs(29));
    assert_eq!(world.answer(stays.at, asked), None, "it waits");
    world.advance(secs(6));
    let told = world.answer(stays.at, asked).expect("it is told").map_err(|fault| fault.code);
    assert_eq!(told, Err(Code::E_TIMEOUT));
    world.clear_holds();
    world.settle();
    world.submit(stays, "d@x");
    assert_eq!((world.wire.delivered_to("c@x"), world.wire.delivered_to("d@x")), (0, 1));
    world.assert_counts();
}
