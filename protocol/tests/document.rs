//! `PROTOCOL.md` against the code: every message with its tag, and an example session byte for byte.
//!
//! `SUNDOWN_BLESS=1 cargo test -p sundown-protocol --test document` writes the session into the document again.

mod samples;

use std::collections::BTreeSet;
use std::fmt::Write;

use sundown_protocol::hello::{Answer, Hello, MAGIC, Welcome};
use sundown_protocol::notification::{EndReason, FolderChange};
use sundown_protocol::reply::{FromBroker, LoggedOff, LoggedOn, Peer, SubmissionState};
use sundown_protocol::request::{
    AdviseSource, Asked, Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags, Repeat,
    Report, Submit,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event, Events, MemberId, Notification, Reply, Request, RequestId,
    SessionId, SubmitKey, Version, codec,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../PROTOCOL.md");
const BEGIN: &str = "<!-- session: begin -->\n";
const END: &str = "<!-- session: end -->\n";

/// Sixteen bytes a line: offset, hexadecimal, text.
fn hexdump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, row) in bytes.chunks(16).enumerate() {
        let hex: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String = row
            .iter()
            .map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        writeln!(text, "{:04x}  {:47}  {shown}", n * 16, hex.join(" ")).expect("a string");
    }
    text
}

/// One frame of the example: who sends it, what it says, its bytes.
struct Said(&'static str, &'static str, Vec<u8>);

fn asked(id: u64, what: &'static str, request: Request) -> Said {
    let frame = codec::encode(&Asked { id: RequestId(id), request }).expect("it fits a frame");
    Said("client", what, frame)
}

fn answered(id: u64, what: &'static str, reply: Reply) -> Said {
    let answer = FromBroker::Answer { id: RequestId(id), result: Ok(reply) };
    Said("broker", what, codec::encode(&answer).expect("it fits a frame"))
}

fn session() -> Vec<Said> {
    let member = MemberId(14);
    let key = SubmitKey(0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10);
    let hello = Hello {
        magic: MAGIC,
        oldest: 1,
        newest: 1,
        image: [0xAB; 16],
        library: [0xCD; 16],
        program: "tray".into(),
    };
    let welcome = Answer::Welcome(Welcome { version: 1, pid: 812, requests: 256, bytes: 4 << 20 });
    let end = FromBroker::Notify(Notification {
        member,
        advises: vec![AdviseId(1)],
        event: Event::CriticalError {
            code: Code::E_END_OF_SESSION,
            reason: EndReason::SharedLogoff,
            by: Some(Peer { pid: 977, program: "backup".into() }),
            grace: Some(30_000),
        },
    });
    let encode = |m: &FromBroker| codec::encode(m).expect("it fits a frame");
    vec![
        Said(
            "client",
            "Hello: versions 1 to 1, program `tray`",
            codec::encode(&hello).expect("it fits a frame"),
        ),
        Said(
            "broker",
            "Welcome: version 1, broker 812, 256 requests and 4 MiB at once",
            codec::encode(&welcome).expect("it fits a frame"),
        ),
        asked(
            1,
            "request 1, Logon: default profile, no flags",
            Request::Logon(Logon { profile: None, flags: LogonFlags::default() }),
        ),
        answered(
            1,
            "answer to 1, LoggedOn: member 14 of the shared session 2, one store",
            Reply::LoggedOn(LoggedOn {
                member,
                session: SessionId(2),
                profile: "default".into(),
                shared: true,
                stores: vec!["sqlite".into()],
                identity: "anna@host".into(),
            }),
        ),
        asked(
            2,
            "request 2, Advise: critical errors and extended events of the session",
            Request::Advise {
                member,
                source: AdviseSource::Session,
                events: Events::CRITICAL_ERROR | Events::EXTENDED,
            },
        ),
        answered(2, "answer to 2, Advised: connection number 1", Reply::Advised(AdviseId(1))),
        asked(
            3,
            "request 3, Submit: durable, to one recipient, the message within the request",
            Request::Submit(Submit {
                member,
                store: 0,
                key,
                from: None,
                recipients: vec!["bo@localhost".into()],
                content: Content::Inline(Blob(b"Subject: Hi\n\nHi!\n".to_vec())),
                when: Durability::Durable,
                report: Report::default(),
            }),
        ),
        answered(
            3,
            "answer to 3, Submitted: the entry identifier, and Queued",
            Reply::Submitted {
                entry: EntryId { store: 0x00C0_FFEE, record: key.0 },
                state: SubmissionState::Queued,
            },
        ),
        Said(
            "broker",
            "Notify: program `backup` ended the shared session, 30 s grace",
            encode(&end),
        ),
        asked(
            4,
            "request 4, Logoff: after outbound mail, at most 5 s",
            Request::Logoff(Logoff { member, flags: LogoffFlags::default(), drain: Some(5_000) }),
        ),
        answered(
            4,
            "answer to 4, LoggedOff: nothing was open, nothing is left in the queue",
            Reply::LoggedOff(LoggedOff::default()),
        ),
    ]
}

fn example() -> String {
    session().iter().fold(String::new(), |mut text, Said(who, what, bytes)| {
        write!(text, "\n{who}: {what}\n\n```text\n{}```\n", hexdump(bytes)).expect("a string");
        text
    })
}

#[test]
fn the_example_session_is_what_the_code_says() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    let (before, rest) = document.split_once(BEGIN).expect("PROTOCOL.md has an example session");
    let (shown, after) = rest.split_once(END).expect("the example session ends");
    let example = example() + "\n";
    if std::env::var_os("SUNDOWN_BLESS").is_some() {
        std::fs::write(DOCUMENT, [before, BEGIN, &example, END, after].concat()).expect("written");
    } else {
        assert_eq!(shown, example, "PROTOCOL.md shows other bytes");
    }
}

/// The four large enums have a table each, behind a heading with their name; the others have one line each.
#[test]
fn every_message_is_described_with_its_tag() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    for (of, variants) in samples::ENUMS {
        let heading = document.find(&format!("\n### `{of}`"));
        let line = document.lines().find(|line| line.starts_with(&format!("| `{of}` |")));
        let described = match (heading, line) {
            (Some(start), _) => {
                let section = &document[start + 1..];
                section.find("\n##").map_or(section, |end| &section[..end])
            }
            (None, Some(line)) => line,
            (None, None) => panic!("PROTOCOL.md does not describe {of}"),
        };
        for (tag, variant) in variants.iter().enumerate() {
            let row = format!("\n| {tag} | `{variant}` |");
            let item = format!(" {tag} `{variant}`");
            let found = described.contains(&row) || described.contains(&item);
            assert!(found, "PROTOCOL.md does not describe {of}::{variant} with tag {tag}");
        }
    }
}

/// Of each request the document says whether it may be repeated.
#[test]
fn every_repeat_is_described() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    let table = document.split("#### Repeats").nth(1).expect("there is such a section");
    let table = table.split("\n**").next().expect("it ends").to_owned();
    let rows: Vec<Vec<_>> =
        table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for request in samples::requests() {
        let name = format!("`{}`", request.name());
        let of_it = rows.iter().filter(|row| row.len() > 3 && row[1].contains(&name));
        let said: Vec<_> = of_it.map(|row| row[2]).collect();
        assert!(said.contains(&request.repeat().name()), "{name} is {:?}", request.repeat());
    }
    let word = |repeat: Repeat| rows.iter().any(|row| row.len() > 3 && row[2] == repeat.name());
    assert!(
        [Repeat::Harmless, Repeat::Keyed, Repeat::Settled, Repeat::Never].map(word) == [true; 4]
    );
}

/// The first four bytes of a payload, or those behind a request's id, are the tag that the document shows.
#[test]
fn tags_are_the_places_in_the_lists() {
    for (name, frame) in samples::lines() {
        let (of, variant) = name.split_once("::").expect("a name has two parts");
        let at = match of {
            "Request" => 4 + 8,
            // The answer's tag, the request's id, the tag of its success.
            "Reply" => 4 + 4 + 8 + 4,
            // The notification's tag, the member, one registration.
            "Event" => 4 + 4 + 8 + 8 + 4,
            _ => 4,
        };
        let tag = u32::from_le_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let (_, variants) = samples::ENUMS.iter().find(|(e, _)| *e == of).expect("it is listed");
        assert_eq!(variants.iter().position(|v| *v == variant), Some(tag as usize), "{name}");
    }
}

/// The row of a variant in the section of its enum.
fn row_of<'a>(document: &'a str, of: &str, variant: &str) -> &'a str {
    let section = document.split(&format!("\n### `{of}`")).nth(1).expect("there is such a section");
    let mut rows = section.lines();
    rows.find(|line| line.contains(&format!(" | `{variant}` |"))).expect("it has a row")
}

/// Of a request that the first version lacks, the document says which version brought it.
#[test]
fn every_request_is_described_with_its_version() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    for request in samples::requests() {
        let row = row_of(&document, "Request", request.name());
        let said = match request.since() {
            Version::V1 => !row.contains("from version"),
            Version::V2 => row.contains("from version 2 on"),
            Version::V3 => row.contains("from version 3 on"),
            Version::V4 => row.contains("from version 4 on"),
        };
        assert!(said, "{} is there since {:?}: {row}", request.name(), request.since());
    }
}

/// The bits of a set of events, their words, and that a client may register for all of them.
#[test]
fn every_kind_of_event_is_described_with_its_bit() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    let section = document.split("\n### Events\n").nth(1).expect("there is such a section");
    let mut all = Events::default();
    for row in
        section.lines().skip_while(|l| !l.starts_with("| `0x")).take_while(|l| l.starts_with('|'))
    {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let bit = u32::from_str_radix(cells[1].trim_start_matches("0x"), 16).expect("a bit");
        assert_eq!(cells[2].parse(), Ok(Events(bit)), "{row}");
        assert!(!all.contains(Events(bit)), "two words for one bit: {row}");
        all = all | Events(bit);
    }
    assert_eq!(all, Events::all());
}

/// A registration for the bit of an event is told of it. What has no bit is told to the member it is about.
#[test]
fn every_event_is_told_for_the_bit_that_the_document_names() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    let bits = [
        ("`fnevCriticalError`", Events::CRITICAL_ERROR),
        ("`fnevNewMail`", Events::NEW_MAIL),
        ("`fnevObjectCreated`", Events::OBJECT_CREATED),
        ("`fnevObjectModified`", Events::OBJECT_MODIFIED),
        ("`fnevObjectMoved`", Events::OBJECT_MOVED),
        ("`fnevObjectDeleted`", Events::OBJECT_DELETED),
        ("`fnevTableModified`", Events::TABLE_MODIFIED),
        ("`fnevExtended`", Events::EXTENDED),
    ];
    for event in samples::events() {
        let row = row_of(&document, "Event", samples::event_name(&event));
        let mut named = bits.iter().filter(|(name, _)| row.contains(name)).map(|(_, bit)| *bit);
        match event {
            Event::Folder { store, folder, .. } => {
                let changes = [FolderChange::Made, FolderChange::Renamed, FolderChange::Removed];
                let told = changes.map(|change| Event::Folder { store, folder, change }.mask());
                let named: BTreeSet<_> = named.map(|bit| bit.0).collect();
                assert_eq!(told.iter().flatten().map(|bit| bit.0).collect::<BTreeSet<_>>(), named);
            }
            Event::Durable(_) => assert_eq!(event.mask(), None, "{row}"),
            event => assert_eq!(event.mask(), named.next(), "{row}"),
        }
    }
}

/// What tells of an end, and what the library itself needs, arrives even at a client that does not read.
#[test]
fn what_must_arrive_is_not_dropped() {
    for event in samples::events() {
        let name = samples::event_name(&event);
        let kept = ["CriticalError", "Evicted", "Lagged", "Ticket", "Session"].contains(&name);
        assert_eq!(event.may_be_dropped(), !kept, "{name}");
    }
}

/// What a process needs in order to leave, and to see why it cannot, is answered although the credit is spent.
#[test]
fn the_requests_that_the_document_calls_free_are_free() {
    let document = std::fs::read_to_string(DOCUMENT).expect("PROTOCOL.md is there");
    let sentence =
        "\n`Logoff`, `Unadvise`, `Release`, the three of fast shutdown and `Status` cost no credit";
    assert!(document.contains(sentence), "the document calls others free");
    for request in samples::requests() {
        let name = request.name();
        let shutdown = ["QueryFastShutdown", "NotifyProcessShutdown", "DoFastShutdown"];
        let free = sentence.contains(&format!("`{name}`")) || shutdown.contains(&name);
        assert_eq!(request.is_free(), free, "{name}");
    }
}
