//! Tickets: host, verdict and end of a process over restarts of the broker.

use sundown_protocol::Code;
use sundown_protocol::reply::Reply;
use sundown_protocol::request::{Blob, Request, Ticket};

use super::fakes::Interface;
use super::world::{OWNER, World};
use crate::settings::TicketKey;

const DO: Request = Request::DoFastShutdown { remembered: false };
const ADD_IN: [u8; 16] = [7; 16];

/// SEED-15: two copies of the library in a process, the host first. Whichever comes back first after a restart, the host is
/// the host, and the add-in is none.
#[test]
fn the_host_stays_the_host() {
    for add_in_comes_first in [true, false] {
        let mut world = World::new();
        let (host, add_in) = (world.connect(1), world.connect_with(1, OWNER, ADD_IN));
        world.ticket(host).expect("given");
        world.ticket(add_in).expect("given");
        world.crash();
        let connect = |world: &mut World, add_in: bool| {
            let at = world.connect_with(1, OWNER, if add_in { ADD_IN } else { [0; 16] });
            world.ticket(at).expect("believed");
            at
        };
        let (host, add_in) = if add_in_comes_first {
            let add_in = connect(&mut world, true);
            (connect(&mut world, false), add_in)
        } else {
            let host = connect(&mut world, false);
            (host, connect(&mut world, true))
        };
        for request in [Request::QueryFastShutdown, Request::NotifyProcessShutdown, DO] {
            assert_eq!(world.refused(add_in, request), Code::E_NO_ACCESS);
        }
        world.logon(host);
        world.leave_fast(host);
    }
}

/// SEED-15: without a ticket a process that an earlier broker may have served has no host, until a copy comes that can show
/// one; a process that started since has one at once.
#[test]
fn without_a_ticket_there_is_no_host() {
    let mut world = World::new();
    let host = world.connect(1);
    world.ticket(host).expect("given");
    world.crash();
    let add_in = world.connect_with(1, OWNER, ADD_IN);
    let unproven = world.ticket(add_in).expect("given");
    for request in [Request::QueryFastShutdown, Request::NotifyProcessShutdown, DO] {
        assert_eq!(world.refused(add_in, request), Code::E_NO_ACCESS);
    }
    let host = world.connect(1);
    assert_eq!(world.refused(host, Request::QueryFastShutdown), Code::E_NO_ACCESS);
    let proven = world.ticket(host).expect("believed");
    assert_ne!(unproven, proven);
    assert_eq!(world.kept_ticket(1, ADD_IN), Some(proven), "the other copy is told");
    assert_eq!(world.query(host), Ok(Reply::Done));
    assert_eq!(world.refused(add_in, Request::QueryFastShutdown), Code::E_NO_ACCESS);
    let new = world.member(2);
    world.leave_fast(new.at);
}

/// SEED-12: a verdict holds over restarts, a yes as well as a no, whatever providers say by then. Only a ticket says it: a
/// client's word does not.
#[test]
fn a_verdict_outlives_brokers() {
    let no = Interface::Refuses(Code::E_NO_SUPPORT);
    for yes in [true, false] {
        let mut world = World::new();
        let member = world.member(1);
        world.ticket(member.at).expect("given");
        if !yes {
            world.interfaces.insert("people".into(), no);
        }
        assert_eq!(world.query(member.at).is_ok(), yes);
        world.crash();
        world.interfaces.clear();
        let before = world.swept().len();
        let member = world.member(1);
        let word = Request::DoFastShutdown { remembered: true };
        assert_eq!(world.refused(member.at, word.clone()), Code::E_NO_ACCESS);
        world.ticket(member.at).expect("believed");
        assert_eq!(world.query(member.at).is_ok(), yes, "the answer of the first broker");
        assert_eq!(world.swept()[before..], [], "nobody is asked again");
        assert_eq!(world.call(member.at, word).is_ok(), yes);
        // A process that was never asked has nothing by its word.
        let raw = world.member(2);
        world.interfaces.insert("people".into(), no);
        assert_eq!(
            world.refused(raw.at, Request::DoFastShutdown { remembered: true }),
            Code::E_NO_SUPPORT
        );
    }
}

/// SEED-12, SEED-16: a yes that was said by an earlier broker does not make this broker's providers skip their own answer.
#[test]
fn a_provider_of_the_new_broker_is_asked_within_do() {
    let mut world = World::new();
    let member = world.member(1);
    world.ticket(member.at).expect("given");
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.crash();
    let before = world.swept().len();
    let member = world.member(1);
    world.ticket(member.at).expect("believed");
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
    let words: Vec<_> =
        world.swept()[before..].iter().map(|(_, p, c)| format!("{p}.{c}")).collect();
    let each = |p: &str| [format!("{p}.QueryFastShutdown"), format!("{p}.DoFastShutdown")];
    assert_eq!(words, ["relay", "people", "store"].map(each).concat());
}

/// SEED-14: a process that was shut down takes no calls of another copy of the library either, over a restart.
#[test]
fn done_is_done_for_every_copy() {
    let mut world = World::new();
    let (member, add_in) = (world.member(1), world.connect_with(1, OWNER, ADD_IN));
    world.ticket(add_in).expect("given");
    world.leave_fast(member.at);
    world.crash();
    let add_in = world.connect_with(1, OWNER, ADD_IN);
    let late = world.logon(add_in);
    world.ticket(add_in).expect("believed");
    world.settle();
    assert_eq!(world.refused(add_in, Request::Flush { member: late.id }), Code::E_NOT_INITIALIZED);
    assert!(!world.broker.sessions.members.contains_key(&late.id), "what it has is torn down");
}

/// A ticket of another process, of another user, of another key, or one that was changed, is refused and changes nothing.
#[test]
fn what_is_not_the_process_own_is_refused() {
    let mut world = World::new();
    let member = world.member(1);
    let own = world.ticket(member.at).expect("given");
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    let yes = world.kept_ticket(1, [0; 16]).expect("told of the change");
    assert_ne!(own, yes);
    let show = |ticket: &Ticket| Request::Ticket { shown: Some(ticket.clone()) };
    let thief = world.member(2);
    assert_eq!(world.refused(thief.at, show(&yes)), Code::E_NO_ACCESS);
    for at in 0..yes.0.0.len() {
        let mut bytes = yes.0.0.clone();
        bytes[at] ^= 1;
        assert_eq!(
            world.refused(member.at, show(&Ticket(Blob(bytes)))),
            Code::E_NO_ACCESS,
            "byte {at}"
        );
    }
    for length in [0, 1, yes.0.0.len() - 1] {
        let cut = Ticket(Blob(yes.0.0[..length].to_vec()));
        assert_eq!(world.refused(member.at, show(&cut)), Code::E_NO_ACCESS);
    }
    assert_eq!(world.refused(thief.at, DO), Code::E_NO_SUPPORT);
    world.broker.settings.broker.ticket_key = TicketKey([9; 32]);
    assert_eq!(world.refused(member.at, show(&yes)), Code::E_NO_ACCESS);
}

/// Facts only grow: an old ticket takes nothing back, and of two hosts the one that came first is right.
#[test]
fn an_older_ticket_takes_nothing_back() {
    let mut world = World::new();
    let member = world.member(1);
    let old = world.ticket(member.at).expect("given");
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    let show = Request::Ticket { shown: Some(old.clone()) };
    let shown = world.call(member.at, show.clone());
    assert_eq!(shown, Ok(Reply::Ticket(world.kept_ticket(1, [0; 16]).expect("the newest"))));
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
}

/// SEED-15: while the host has no connection an add-in is no host either, with this broker as with the next one; and the host is
/// the host when it comes back.
#[test]
fn the_host_is_away_for_a_moment() {
    for restarts in [false, true] {
        let mut world = World::new();
        let host = world.connect(1);
        world.ticket(host).expect("given");
        world.disconnect(host);
        if restarts {
            world.crash();
        }
        let add_in = world.connect_with(1, OWNER, ADD_IN);
        world.ticket(add_in).expect("given");
        for request in [Request::QueryFastShutdown, Request::NotifyProcessShutdown, DO] {
            assert_eq!(world.refused(add_in, request), Code::E_NO_ACCESS);
        }
        let host = world.connect(1);
        world.ticket(host).expect("believed");
        assert_eq!(world.query(host), Ok(Reply::Done));
        // Another process of that number begins anew.
        world.disconnect(host);
        world.disconnect(add_in);
        world.end_process(1);
        let next = world.connect_with(1, OWNER, ADD_IN);
        assert_eq!(world.query(next), Ok(Reply::Done));
    }
}

/// SEED-14: a copy that had no ticket before its process was shut down gets one that says so.
#[test]
fn a_late_copy_learns_that_it_is_over() {
    let mut world = World::new();
    let (member, late) = (world.member(1), world.connect_with(1, OWNER, ADD_IN));
    world.leave_fast(member.at);
    world.ticket(late).expect("given");
    world.crash();
    let late = world.connect_with(1, OWNER, ADD_IN);
    world.ticket(late).expect("believed");
    let logon = super::world::logon_request(None, sundown_protocol::request::LogonFlags::default());
    assert_eq!(world.refused(late, logon), Code::E_NOT_INITIALIZED);
}

/// A connection that did not ask is told of no ticket: older clients do not know the event.
#[test]
fn only_who_asked_is_told() {
    let mut world = World::new();
    let (member, quiet) = (world.member(1), world.connect_with(1, OWNER, ADD_IN));
    world.ticket(member.at).expect("given");
    world.notify(member.at);
    world.leave_fast(member.at);
    assert_eq!(world.kept_ticket(1, ADD_IN), None);
    assert_eq!(world.heard(quiet), []);
}
