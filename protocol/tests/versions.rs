//! What a client or broker of an earlier version is told is in words that it has.

#[allow(dead_code, reason = "other tests use the rest")]
mod messages;
mod older;
#[allow(dead_code, reason = "other tests use the rest")]
mod samples;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sundown_protocol::notification::FolderChange;
use sundown_protocol::reply::{FromBroker, Rows};
use sundown_protocol::reply::{Granted, Place, Resource, StatusRow, TableRows};
use sundown_protocol::request::Asked;
use sundown_protocol::{
    AdviseId, Code, EntryId, Event, Folder, MemberId, Notification, ObjectId, Reply, Request,
    RequestId, Version, codec, frame,
};

const EARLIER: [Version; 3] = [Version::V1, Version::V2, Version::V3];
const ENTRY: EntryId = EntryId { store: 1, record: 7 };
const OTHER: Folder = Folder(Folder::FIRST_OTHER);

fn payload(frame: &[u8]) -> &[u8] {
    &frame[frame::HEADER..]
}

fn asked(request: Request) -> Vec<u8> {
    codec::encode(&Asked { id: RequestId(1), request }).expect("it fits a frame")
}

fn told(event: Event) -> Vec<u8> {
    let notification = Notification { member: MemberId(1), advises: vec![AdviseId(1)], event };
    codec::encode(&FromBroker::Notify(notification)).expect("it fits a frame")
}

fn answered(reply: Reply) -> Vec<u8> {
    let answer = FromBroker::Answer { id: RequestId(1), result: Ok(reply) };
    codec::encode(&answer).expect("it fits a frame")
}

/// The version that brought an event. Each is here, and a new one does not compile until it is.
fn brought_by(event: &Event) -> Version {
    match event {
        Event::CriticalError { .. }
        | Event::NewMail(_)
        | Event::Created(_)
        | Event::Modified(_)
        | Event::Moved(..)
        | Event::Deleted(_)
        | Event::Table { .. }
        | Event::MemberLeft { .. }
        | Event::Evicted
        | Event::BrokerStopping { .. }
        | Event::LogoffProgress { .. }
        | Event::Durable(_)
        | Event::Lagged { .. } => Version::V1,
        Event::Ticket(_) | Event::Session(_) | Event::MembersLeft(_) => Version::V3,
        Event::Arrived(_) | Event::Folder { .. } => Version::V4,
    }
}

/// The version of the requests that a reply of this kind answers, by the samples of requests.
fn versions_of_replies() -> BTreeMap<&'static str, Version> {
    let mut versions = BTreeMap::new();
    let replies = samples::replies();
    for request in samples::requests() {
        let reply = replies.iter().find(|reply| reply.kind() == request.reply());
        let name = samples::reply_name(reply.expect("each reply has a sample"));
        let version = versions.entry(name).or_insert(request.since());
        *version = (*version).min(request.since());
    }
    versions
}

/// The lines of the golden file are what the versions said: what is written down here of version 3 reads those of versions 1 to 3, and
/// no line of version 4.
#[test]
fn the_readers_of_earlier_versions_read_what_was_recorded() {
    let replies = versions_of_replies();
    for version in EARLIER {
        for request in samples::requests() {
            let (since, name) = (request.since(), request.name());
            let reads = older::reads_request(version, payload(&asked(request)));
            assert_eq!(reads, since <= version, "{name} for {version:?}");
        }
        for event in samples::events() {
            let (since, name) = (brought_by(&event), samples::event_name(&event));
            let reads = older::reads_from_broker(version, payload(&told(event)));
            assert_eq!(reads, since <= version, "{name} for {version:?}");
        }
        for reply in samples::replies() {
            let name = samples::reply_name(&reply);
            // Replies to requests about the address book and the queue have a sample of another action.
            let since = replies.get(name).copied().unwrap_or(Version::V1);
            let reads = older::reads_from_broker(version, payload(&answered(reply)));
            assert_eq!(reads, since <= version, "{name} for {version:?}");
        }
    }
}

proptest! {
    /// The version that a request says it takes is the first one whose reader understands it.
    #[test]
    fn a_request_takes_the_version_that_it_says(message in messages::asked()) {
        let frame = codec::encode(&message).expect("it fits a frame");
        for version in EARLIER {
            let reads = older::reads_request(version, payload(&frame));
            prop_assert_eq!(reads, message.request.since() <= version, "{:?}", version);
        }
    }

    /// An event is told in words of the client's version, or not at all. Tickets and names of sessions go to those only that have
    /// asked for tickets, which takes version 3.
    #[test]
    fn every_event_can_be_read_in_every_version(event in messages::event()) {
        for version in EARLIER {
            if matches!(event, Event::Ticket(_) | Event::Session(_)) && version < Version::V3 {
                continue;
            }
            let events = event.clone().in_version(version);
            if !event.differs() {
                prop_assert_eq!(&events[..], std::slice::from_ref(&event), "{:?}", version);
            }
            for event in events {
                let shown = format!("{event:?}");
                let reads = older::reads_from_broker(version, payload(&told(event)));
                prop_assert!(reads, "{} for {:?}", shown, version);
            }
        }
        prop_assert_eq!(event.clone().in_version(Version::V4), vec![event]);
    }

    /// A reply is told in words of the client's version, if the request is one of that version.
    #[test]
    fn every_reply_can_be_read_in_every_version(reply in messages::reply()) {
        let since = versions_of_replies();
        let since = since.get(samples::reply_name(&reply)).copied().unwrap_or(Version::V1);
        for version in EARLIER.into_iter().filter(|version| *version >= since) {
            let shown = format!("{reply:?}");
            let answer = match reply.clone().in_version(version) {
                Ok(reply) => answered(reply),
                Err(fault) => {
                    let other = |folder: Folder| folder.built_in().is_none();
                    let named = matches!(
                        &reply,
                        Reply::Redeemed { granted: Granted::Folder(folder), .. } if other(*folder)
                    );
                    prop_assert!(named && fault.code == Code::E_VERSION, "{}: {}", shown, fault);
                    let result = Err(fault);
                    let answer = FromBroker::Answer { id: RequestId(1), result };
                    codec::encode(&answer).expect("it fits a frame")
                }
            };
            prop_assert!(older::reads_from_broker(version, payload(&answer)), "{}", shown);
        }
        prop_assert_eq!(reply.clone().in_version(Version::V4), Ok(reply));
    }
}

/// A client that knows the five folders of every store sees a message come and go where it moves into and out of them.
#[test]
fn a_message_that_moves_comes_or_goes_for_an_earlier_client() {
    let at = |folder| Place { entry: ENTRY, folder };
    let (inbox, sent) = (Folder::INBOX, Folder::SENT);
    let told = |to, from| Event::Moved(at(to), from).in_version(Version::V3);
    assert_eq!(told(sent, inbox), [Event::Moved(at(sent), inbox)]);
    assert_eq!(told(OTHER, inbox), [Event::Deleted(at(inbox))]);
    assert_eq!(told(sent, OTHER), [Event::Created(at(sent))]);
    assert_eq!(told(OTHER, Folder(17)), []);
    let arrived = |folder| {
        let arrival = sundown_protocol::notification::Arrival {
            place: at(folder),
            from: "anna".into(),
            subject: "Hi".into(),
        };
        Event::Arrived(Box::new(arrival)).in_version(Version::V3)
    };
    assert_eq!(arrived(inbox), [Event::NewMail(at(inbox))]);
    assert_eq!(arrived(OTHER), []);
    for event in [Event::NewMail, Event::Created, Event::Modified, Event::Deleted] {
        assert_eq!(event(at(OTHER)).in_version(Version::V3), []);
        assert_eq!(event(at(inbox)).in_version(Version::V3), [event(at(inbox))]);
    }
    for change in [FolderChange::Made, FolderChange::Renamed, FolderChange::Removed] {
        assert_eq!(Event::Folder { store: 1, folder: OTHER, change }.in_version(Version::V3), []);
    }
}

/// An earlier client sees a mailbox as a transport, and no reference to a folder that it cannot name.
#[test]
fn an_earlier_client_sees_the_nearest_thing() {
    let row = |resource| {
        let text = String::new();
        let row = StatusRow { name: "imap".into(), resource, code: 0, text, methods: 0 };
        Reply::Rows(Rows { rows: TableRows::Status(vec![row]), next: None })
    };
    let transport = row(Resource::TransportProvider);
    assert_eq!(row(Resource::Mailbox).in_version(Version::V3), Ok(transport.clone()));
    assert_eq!(transport.clone().in_version(Version::V3), Ok(transport));
    let redeemed = |folder| {
        let object = ObjectId { place: 1, generation: 1 };
        Reply::Redeemed { member: MemberId(1), object, granted: Granted::Folder(folder) }
    };
    let inbox = redeemed(Folder::INBOX);
    assert_eq!(inbox.clone().in_version(Version::V3), Ok(inbox));
    let refused = redeemed(OTHER).in_version(Version::V3).expect_err("it has no such number");
    assert_eq!(refused.code, Code::E_VERSION);
    assert!(refused.message.contains("update the program"), "{refused}");
    let status = samples::replies().into_iter().find_map(|reply| match reply {
        Reply::Status(status) => Some(status),
        _ => None,
    });
    let mut status = status.expect("it has a sample");
    let mut reference = status.sessions[0].references[0].clone();
    let known = status.sessions[0].references.clone();
    reference.granted = Granted::Folder(OTHER);
    status.sessions[0].references.push(reference);
    let Ok(Reply::Status(told)) = Reply::Status(status).in_version(Version::V3) else {
        panic!("it is a status")
    };
    assert_eq!(told.sessions[0].references, known);
}
