//! What a message's row shows, from what a server says of it; flags.

use std::borrow::Cow;

use sundown_core::provider::MessageFacts;
use sundown_protocol::folder::Marks;
use twox_hash::XxHash3_128;

use super::Fetch;
use crate::headers::Head;

/// What is asked for of a message that is new. The structure of a message is not: servers err there, and heads cost no more.
pub(super) const HEAD: &str =
    "BODY.PEEK[HEADER.FIELDS (DATE FROM TO CC SUBJECT MESSAGE-ID IN-REPLY-TO)]";

/// The longest `Message-ID` that tells messages apart, in bytes.
const LONGEST_ID: usize = 1_000;

/// Each flag of a server and the mark that it is.
const FLAGS: [(&str, Marks); 6] = [
    ("\\Seen", Marks::READ),
    ("\\Answered", Marks::ANSWERED),
    ("\\Flagged", Marks::FLAGGED),
    ("\\Draft", Marks::DRAFT),
    ("\\Deleted", Marks::DELETED),
    ("$Forwarded", Marks::FORWARDED),
];

/// The marks that flags are. Others are passed over.
pub(super) fn marks(flags: &[Cow<'_, [u8]>]) -> Marks {
    let has = |name: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(name.as_bytes()));
    Marks(FLAGS.iter().filter(|(name, _)| has(name)).fold(0, |all, (_, mark)| all | mark.0))
}

/// The flags of marks, as in a command.
pub(super) fn flags(marks: Marks) -> String {
    let set = FLAGS.iter().filter(|(_, mark)| marks.contains(*mark));
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// The marks that a folder keeps, by its `PERMANENTFLAGS`.
pub(super) fn permanent(flags: &[Cow<'_, [u8]>]) -> Marks {
    let mut marks = marks(flags);
    if flags.iter().any(|flag| flag.as_ref() == b"\\*") {
        marks.0 |= Marks::FORWARDED.0;
    }
    marks
}

/// A message as a server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) uid: u32,
    pub(super) marks: Marks,
    pub(super) facts: MessageFacts,
    /// `Message-ID`.
    pub(super) id: Option<Vec<u8>>,
}

impl Described {
    /// What a response says, if it says everything.
    pub(super) fn of(fetch: &Fetch<'_>) -> Option<Self> {
        let uid = fetch.uid?;
        let marks = marks(fetch.flags.as_deref()?);
        let head = fetch.sections.iter().find(|section| {
            section.name.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"HEADER"))
        })?;
        let bytes = head.bytes.as_deref().unwrap_or_default();
        let head = Head::of(bytes);
        let received = fetch.received.unwrap_or_default().max(0) as u64;
        let size = fetch.size.unwrap_or_default();
        let facts = MessageFacts {
            size,
            // Servers have whole seconds; messages of one second are in the order of their numbers.
            received: received + u64::from(uid % 1000),
            date: head.date(),
            subject: head.subject(),
            from: head.from(),
            to: head.to(),
            trace: Some(trace(fetch.email_id.as_deref(), (received, size), bytes)),
        };
        Some(Self { uid, marks, facts, id: message_id(bytes) })
    }
}

/// What tells a message from others: the identity that the server gives to its contents, or else when it came and its head; and in any
/// case its size, so that a server with one identity for everything does not make everything one message.
fn trace(email_id: Option<&[u8]>, (received, size): (u64, u64), head: &[u8]) -> u128 {
    let head: Vec<u8> = head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let size = size.to_be_bytes();
    match email_id {
        Some(id) => XxHash3_128::oneshot(&[b"id\0", &size[..], id].concat()),
        None => XxHash3_128::oneshot(&[&received.to_be_bytes()[..], &size, &head].concat()),
    }
}

/// The `Message-ID` of a head, without blanks.
pub(super) fn message_id(head: &[u8]) -> Option<Vec<u8>> {
    let mut fields = sundown_mail::head::Fields::of(head);
    let field = fields.find(|field| field.name().eq_ignore_ascii_case(b"message-id"))?;
    let id: Vec<u8> =
        field.value().iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    (1..=LONGEST_ID).contains(&id.len()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::super::{Data, Response};
    use super::*;

    fn described(response: &str) -> Option<Described> {
        match Response::read(response.as_bytes()) {
            Ok(Response::Data(Data::Fetch(fetch))) => Described::of(&fetch),
            other => panic!("{other:?}"),
        }
    }

    const HEADS: &str = "BODY[HEADER.FIELDS (DATE FROM)] {63}\r\nFrom: Eve <e@x.y>\r\nSubject: hi\r\nMessage-ID: <1@x.y>\r\nTo: a@b\r\n\r\n";

    #[test]
    fn a_message_is_described() {
        let head = HEADS.replace(
            "{63}",
            &format!("{{{}}}", HEADS.split_once("}\r\n").map_or(0, |(_, b)| b.len())),
        );
        let said = |uid, date: &str| {
            format!(
                "* 1 FETCH (UID {uid} FLAGS (\\Seen $forwarded Other) INTERNALDATE \"{date}\" RFC822.SIZE 99 {head})"
            )
        };
        let first = described(&said(7, "17-Jul-1996 02:44:25 +0000")).expect("a message");
        assert_eq!(first.marks, Marks(Marks::READ.0 | Marks::FORWARDED.0));
        assert_eq!((first.uid, first.facts.size), (7, 99));
        assert_eq!(first.facts.subject, "hi");
        assert_eq!(first.id.as_deref(), Some(&b"<1@x.y>"[..]));
        let moved = described(&said(9, "17-Jul-1996 02:44:25 +0000")).expect("a message");
        assert_eq!(moved.facts.trace, first.facts.trace);
        let twin = described(&said(9, "17-Jul-1996 02:44:26 +0000")).expect("a message");
        assert_ne!(twin.facts.trace, first.facts.trace);
        // A server that gives one identity to everything.
        let same = |size| {
            let said = said(7, "17-Jul-1996 02:44:25 +0000").replace("SIZE 99", size);
            described(&said).expect("a message").facts.trace
        };
        assert_ne!(same("SIZE 99 EMAILID (M1)"), same("SIZE 98 EMAILID (M1)"));
        assert_eq!(same("SIZE 99 EMAILID (M1)"), same("SIZE 99 EMAILID (M1)"));
        assert_eq!(described("* 1 FETCH (UID 7 FLAGS ())"), None);
    }

    #[test]
    fn flags_are_marks() {
        for bits in 0..64 {
            let text = flags(Marks(bits));
            let words: Vec<_> =
                text.split_whitespace().map(|word| Cow::Borrowed(word.as_bytes())).collect();
            assert_eq!(marks(&words), Marks(bits & Marks::KNOWN));
        }
        let star = [Cow::Borrowed(&b"\\*"[..]), Cow::Borrowed(&b"\\Seen"[..])];
        assert_eq!(permanent(&star), Marks(Marks::READ.0 | Marks::FORWARDED.0));
    }
}
