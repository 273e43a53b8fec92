//! `StoreLogoff` and its flags.

use sundown_protocol::request::{Opening, Request, StoreLogoff};
use sundown_protocol::{Code, Fault, Reply};

use super::fakes::Step;
use super::world::{Member, World, secs};
use crate::provider::Outcome;

fn log_off(world: &mut World, member: Member, flags: StoreLogoff) -> Result<StoreLogoff, Fault> {
    let object = world.open(member, Opening::Store(0));
    let request = Request::StoreLogoff { member: member.id, object, flags };
    match world.call(member.at, request.clone())? {
        Reply::StoreLoggedOff(out) => {
            let again = world.call(member.at, request).map_err(|f| f.code);
            if out.contains(StoreLogoff::COMPLETE) {
                assert_eq!(again, Err(Code::E_INVALID_OBJECT), "the object is gone");
            } else {
                assert!(again.is_ok(), "the object is still there");
            }
            Ok(out)
        }
        other => panic!("{other:?} to a store's logoff"),
    }
}

/// STORE-1, STORE-2: exactly one flag goes in.
#[test]
fn exactly_one_flag_goes_in() {
    let mut world = World::new();
    let member = world.member(1);
    for (flags, code) in [
        (0, Code::E_INVALID_PARAMETER),
        (3, Code::E_INVALID_PARAMETER),
        (0x20, Code::E_UNKNOWN_FLAGS),
        (0x10000, Code::E_UNKNOWN_FLAGS),
    ] {
        let refused = log_off(&mut world, member, StoreLogoff(flags)).expect_err("it is refused");
        assert_eq!(refused.code, code, "{flags:#x}");
    }
    let inbox = world.open(member, Opening::StatusTable);
    let flags = StoreLogoff::ABORT;
    let request = Request::StoreLogoff { member: member.id, object: inbox, flags };
    assert_eq!(world.call(member.at, request).expect_err("no store").code, Code::E_INVALID_OBJECT);
}

/// STORE-3, STORE-4, STORE-6, STORE-8: without activity every flag completes at once.
#[test]
fn an_idle_store_lets_go_at_once() {
    let mut world = World::new();
    let member = world.member(1);
    for flag in [1, 2, 4, 8, 0x10] {
        assert_eq!(log_off(&mut world, member, StoreLogoff(flag)), Ok(StoreLogoff::COMPLETE));
    }
}

/// STORE-7, STORE-8: quiet does nothing while something goes on, and says what; the others say so too and let go.
#[test]
fn a_busy_store_says_what_it_is_at() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("later@x", &[Step::Says(Outcome::Later)]);
    world.submit(member, "later@x");
    let waits = StoreLogoff::OUTBOUND_QUEUE;
    assert_eq!(log_off(&mut world, member, StoreLogoff::QUIET), Ok(waits));
    world.hold("relay", "EndMessage");
    world.submit(member, "now@x");
    let both = waits.with(StoreLogoff::OUTBOUND);
    assert_eq!(log_off(&mut world, member, StoreLogoff::QUIET), Ok(both));
    for flag in [StoreLogoff::NO_WAIT, StoreLogoff::ORDERLY, StoreLogoff::ABORT] {
        let out = log_off(&mut world, member, flag);
        assert_eq!(out, Ok(both.with(StoreLogoff::COMPLETE)), "{flag:?}");
    }
    world.let_go("relay");
    world.advance(secs(60));
    assert_eq!(world.wire.delivered_to("now@x"), 1, "the broker goes on");
}

/// STORE-5: purge tries at once what waits for its time.
#[test]
fn a_purge_tries_what_waits() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("later@x", &[Step::Says(Outcome::Later); 3]);
    world.submit(member, "later@x");
    world.advance(secs(80));
    world.wire.steps.clear();
    assert_eq!(world.wire.delivered_to("later@x"), 0);
    let out = log_off(&mut world, member, StoreLogoff::PURGE).expect("it lets go");
    assert!(out.contains(StoreLogoff::COMPLETE));
    world.settle();
    assert_eq!(world.wire.delivered_to("later@x"), 1);
}

/// STORE-9, STORE-10: others protect the store: the caller's object goes at once, and nothing else happens.
#[test]
fn others_protect_the_store() {
    let mut world = World::new();
    let (member, _other) = (world.member(1), world.member(2));
    world.hold("relay", "EndMessage");
    world.submit(member, "now@x");
    assert_eq!(log_off(&mut world, member, StoreLogoff::QUIET), Ok(StoreLogoff::COMPLETE));
}
