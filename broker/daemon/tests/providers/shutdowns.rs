//! Query, Notify and Do as providers see them.

use std::time::Duration;

use sundown_protocol::request::{LogonFlags, Request};
use sundown_protocol::{Code, Reply};

use super::broker::{Broker, PROFILE, refused};
use super::probe::{Act, Call, Interface, Plan, Probes};

/// SEED-16, SEED-20, PFS-1, PFS-5: a transport that is shutting down can rely on its store: it reads a message and saves
/// something, and the store is told after that. What it saved is there.
#[test]
fn a_transport_that_shuts_down_can_use_its_store() {
    let probes = Probes::of("transport", Plan::default().with_last_words());
    let broker = Broker::with(&probes, PROFILE);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    let entry = leaves.submit("Subject: last words\n\nBye.\n");
    broker.log.until("sent");
    assert_eq!(leaves.query(), Ok(Reply::Done));
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let log = broker.log.lines();
    let shutdown = log.iter().position(|line| line == "transport query").expect("it was asked");
    let log: Vec<_> = log[shutdown..].iter().filter(|line| !line.ends_with(" ends")).collect();
    let wanted = [
        "transport query",
        "book query",
        "store query",
        "transport do",
        "read Bye.",
        "store keeps sent",
        "saved",
        "book do",
        "store do",
    ];
    assert_eq!(log[..wanted.len()], wanted);
    let mut other = broker.process(2);
    other.logon(LogonFlags::default());
    assert_eq!(other.setting("witness", "sent"), Some(format!("{:x}", entry.record)));
}

/// SEED-18, SEED-16: one kind of provider that serves two stores is called for each, after all the others.
#[test]
fn a_provider_is_called_for_every_store() {
    let two = PROFILE.replace(
        "[[transport]]",
        "[[store]]\nkind = \"probe\"\nname = \"archive\"\npath = \"archive.db\"\n\n[[transport]]",
    );
    let broker = Broker::with(&Probes::default(), &two);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    leaves.submit("Subject: x\n\nx\n");
    broker.log.until("sent");
    assert_eq!(leaves.query(), Ok(Reply::Done));
    leaves.done(Request::NotifyProcessShutdown);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let calls = broker.calls();
    for (sweep, calls) in ["query", "notify", "do"].iter().zip(calls.chunks(4)) {
        let (first, stores) = calls.split_at(2);
        assert_eq!(first, [format!("transport {sweep}"), format!("book {sweep}")]);
        let mut stores = stores.to_vec();
        stores.sort_unstable();
        assert_eq!(stores, [format!("archive {sweep}"), format!("store {sweep}")]);
    }
    assert_eq!(calls.len(), 12);
}

/// SEED-19, SEED-13, PFS-4: after a notice an ordinary life and an ordinary end may follow, for the process that gave it and
/// for the others of its session.
#[test]
fn after_a_notice_life_goes_on() {
    let broker = Broker::with(&Probes::default(), PROFILE);
    let (mut notifies, mut other) = (broker.process(1), broker.process(2));
    for client in [&mut notifies, &mut other] {
        client.logon(LogonFlags::default());
    }
    notifies.done(Request::NotifyProcessShutdown);
    assert_eq!(broker.calls(), ["transport notify", "book notify", "store notify"]);
    for client in [&mut notifies, &mut other] {
        client.submit("Subject: x\n\nx\n");
        client.logoff();
    }
    broker.log.until("transport logoff");
    assert_eq!(broker.log.count("sent"), 2);
}

/// SEED-17: the first answer holds although the provider changes its mind: for the session's other processes, too.
#[test]
fn a_provider_cannot_change_its_mind() {
    let changes = [Act::Answers, Act::Refuses(Code::E_CALL_FAILED)];
    let probes = Probes::of("transport", Plan::default().on(Call::Query, changes));
    let broker = Broker::with(&probes, PROFILE);
    for image in 1..4 {
        let mut client = broker.process(image);
        client.logon(LogonFlags::default());
        assert_eq!(client.query(), Ok(Reply::Done));
        assert_eq!(client.query(), Ok(Reply::Done));
        // The session stays, and with it its provider.
        std::mem::forget(client);
    }
}

/// SEED-10, CFG-5, A-29: a provider that fails inside refuses, and one that has no interface does; one that is late
/// refuses for the process that asked. None of them is lost by that.
#[test]
fn providers_that_misbehave_refuse() {
    let late = Duration::from_millis(1_500);
    let all = [
        Plan::default().on(Call::Query, [Act::Panics]),
        Plan::with(Interface::Panics),
        Plan::with(Interface::Absent),
        Plan::default().on(Call::Query, [Act::Takes(late)]),
    ];
    for plan in all {
        let broker = Broker::with(&Probes::of("transport", plan.clone()), PROFILE);
        let mut client = broker.process(1);
        client.logon(LogonFlags::default());
        assert_eq!(refused(client.query()), ["transport"], "{plan:?}");
        client.submit("Subject: x\n\nx\n");
        broker.log.until("sent");
        assert_eq!(client.do_fast().expect_err("refused").code, Code::E_NO_SUPPORT);
        client.logoff();
        broker.log.until("transport logoff");
    }
}

/// Design §9: who leaves does not wait for the threads of providers that have nothing to save. They count as supporting it.
#[test]
fn a_provider_with_nothing_to_save_is_not_called() {
    let probes = Probes::of("transport", Plan::with(Interface::NothingToSave));
    let broker = Broker::with(&probes, PROFILE);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    assert_eq!(leaves.query(), Ok(Reply::Done));
    leaves.done(Request::NotifyProcessShutdown);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let sweeps = ["query", "notify", "do"];
    let others = sweeps.map(|sweep| [format!("book {sweep}"), format!("store {sweep}")]);
    assert_eq!(broker.calls(), others.concat());
}

/// PFS-3, CFG-5, design §6: an administrator's word counts more than the provider's.
#[test]
fn an_administrator_may_veto() {
    let both = [Interface::There, Interface::NothingToSave];
    for (word, has) in ["refused", "absent"].iter().flat_map(|word| both.map(|i| (word, i))) {
        let vetoed = PROFILE.replace("accept", &format!("fast_shutdown = \"{word}\"\naccept"));
        let broker = Broker::with(&Probes::of("transport", Plan::with(has)), &vetoed);
        let mut client = broker.process(1);
        client.logon(LogonFlags::default());
        assert_eq!(refused(client.query()), ["transport"], "{word}");
        assert_eq!(broker.calls().len(), 2, "the transport itself is not asked");
    }
}
