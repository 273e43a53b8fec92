//! A store that does what it is told, and answers with what is no answer to that.

use sundown_protocol::request::{Blob, Content, Durability, LogonFlags, Report, Request, Submit};
use sundown_protocol::{Code, Reply, SubmitKey};

use super::broker::{Broker, Client, PROFILE};
use super::probe::{Plan, Probes};

fn submit(client: &Client, key: u128) -> Request {
    Request::Submit(Submit {
        member: client.member,
        store: 0,
        key: SubmitKey(key),
        from: None,
        recipients: vec!["b@x".into()],
        content: Content::Inline(Blob(b"Subject: x\n\nx\n".to_vec())),
        when: Durability::Durable,
        report: Report::default(),
    })
}

/// SEED-9, design §3.17: whoever submits is told that it is not known whether the message is stored, and nothing of a success. It is
/// stored, so it goes out, once. The neighbour reads on, and `status` says what is wrong.
#[test]
fn a_submit_that_is_answered_wrongly_is_no_success() {
    let probes = Probes::of("store", Plan::default().that_lies());
    let broker = Broker::with(&probes, PROFILE);
    let (mut asks, mut stays) = (broker.process(1), broker.process(2));
    asks.logon(LogonFlags::default());
    stays.logon(LogonFlags::default());
    let request = submit(&asks, 1 << 90);
    let fault = asks.call(request).expect_err("it is not known");
    assert_eq!(fault.code, Code::E_CORRUPT_DATA, "{fault}");
    assert!(fault.message.contains("store: SubmitMessage was answered with Done"), "{fault}");
    broker.log.until("sent");
    assert!(stays.lists_people());
    let Ok(Reply::Status(status)) = stays.call(Request::Status) else { panic!("a status") };
    let store = status.sessions[0].providers.iter().find(|p| p.name == "store").expect("listed");
    assert_eq!(store.status, "wrong: SubmitMessage was answered with Done");
    assert_eq!(broker.log.count("sent"), 1);
}

/// SEED-16: what a transport saves with its store is saved when the store says so, and else it is told.
#[test]
fn a_transport_is_told_what_its_store_does_not_say() {
    let transport = Plan::default().with_last_words();
    let probes = Probes::of("store", Plan::default().that_lies()).and("transport", transport);
    let broker = Broker::with(&probes, PROFILE);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    let request = submit(&leaves, 1 << 91);
    assert!(leaves.call(request).is_err());
    broker.log.until("sent");
    assert_eq!(leaves.query(), Ok(Reply::Done));
    assert_eq!(leaves.do_fast(), Ok(Reply::Done), "a transport's failure decides nothing");
    assert_eq!(broker.log.count("read x"), 1, "it has tried");
    assert_eq!(broker.log.count("saved"), 0, "{:?}", broker.log.lines());
}
