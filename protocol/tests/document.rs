//! `PROTOCOL.md` against the code: every message with its tag, and an example session byte for byte.
//!
//! `SUNDOWN_BLESS=1 cargo test -p sundown-protocol --test document` writes the session into the document again.

mod samples;

use std::fmt::Write;

use sundown_protocol::hello::{Answer, Hello, MAGIC, Welcome};
use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::{FromBroker, LoggedOff, LoggedOn, Peer, SubmissionState};
use sundown_protocol::request::{
    AdviseSource, Asked, Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags, Repeat,
    Report, Submit,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event, Events, MemberId, Notification, Reply, Request, RequestId,
    SessionId, SubmitKey, codec,
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
