//! Refusals that people read: what is said names the thing, and what helps.

use sundown_protocol::request::{
    AdviseSource, LogonFlags, Opening, QueueAction, QueueChange, Request,
};
use sundown_protocol::{Events, Fault};

use super::fakes::Step;
use super::world::{World, settings};
use crate::provider::Outcome;
use crate::settings::Limits;
use crate::settings::Settings;

fn says(fault: &Fault, words: &[&str]) {
    for word in words {
        assert!(fault.message.contains(word), "{word:?} is not in {:?}", fault.message);
    }
}

/// design §8 *quotas*: a process that has too much of something is told of what, how much it may have, by which setting, and
/// how it gets below.
#[test]
fn a_quota_names_the_thing_and_the_remedy() {
    let limits = Limits { objects: 1, registrations: 1, members: 1, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    world.open(member, Opening::Store(0));
    let fault = world.try_open(member, Opening::Store(0)).expect_err("too many");
    says(&fault, &["has 1 open objects", "(objects)", "release some"]);
    world.advise(member, Events::NEW_MAIL);
    let fault = world.try_advise(member, AdviseSource::Session, Events::NEW_MAIL);
    says(
        &fault.expect_err("too many"),
        &["has 1 registrations", "(registrations)", "unadvise some"],
    );
    let fault = world.try_logon(member.at, None, LogonFlags::default()).expect_err("too many");
    says(&fault, &["has 1 sessions", "(members)", "log one off first"]);
}

/// design §8 *quotas*: the same of connections, which are refused before anything is asked, and of what waits for answers.
#[test]
fn connections_and_bytes_are_named_too() {
    let limits = Limits { process_connections: 1, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    world.connect(1);
    let refused = world.connect(1);
    says(&world.why_closed(refused), &["has 1 connections", "close one first"]);

    let limits = Limits { process_request_bytes: 1 << 10, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    let first = world.submit_request(member, &["b@x"]);
    let second = world.submit_request(member, &["b@x"]);
    world.ask_with(member.at, Request::Submit(first), 800);
    let asked = world.ask_with(member.at, Request::Submit(second), 800);
    let fault = world.answer(member.at, asked).expect("at once").expect_err("too many bytes");
    says(&fault, &["bytes of unanswered requests", "(process_request_bytes)", "wait for answers"]);
}

/// QUEUE-9: a change that makes no sense says which state the message is in and what can be done about it.
#[test]
fn a_change_without_sense_says_why() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("later@x", &[Step::Says(Outcome::Later)]);
    world.script("lost@x", &[Step::Says(Outcome::Unknown)]);
    let (later, lost) = (world.submit(member, "later@x"), world.submit(member, "lost@x"));
    let mut refused = |entry, change| {
        let action = QueueAction::Change(entry, change);
        let request = Request::Queue { profile: Some("default".into()), action };
        world.call(member.at, request).expect_err("it makes no sense")
    };
    says(&refused(later, QueueChange::Release), &["not held", "deferred", "only a held one"]);
    says(&refused(lost, QueueChange::Release), &["not held", "unknown"]);
    says(
        &refused(lost, QueueChange::Hold),
        &["unknown", "`retry` sends it", "`abort` gives it up"],
    );
}
