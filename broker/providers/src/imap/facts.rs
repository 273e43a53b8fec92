//! What a message's row shows, from what a server says of it; flags.

use std::borrow::Cow;

use sundown_core::provider::MessageFacts;
use sundown_protocol::folder::{Flags, MAX_KEYWORDS, Marks, is_keyword};
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

/// The keywords among flags, in alphabetical order: what is neither a mark nor the server's own.
pub(super) fn keywords(flags: &[Cow<'_, [u8]>]) -> Vec<String> {
    let words = flags.iter().filter_map(|flag| std::str::from_utf8(flag).ok());
    let mut keywords: Vec<_> =
        words.filter(|word| is_own_keyword(word)).map(str::to_owned).collect();
    keywords.sort_unstable();
    keywords.dedup();
    keywords.truncate(MAX_KEYWORDS);
    keywords
}

/// Whether a keyword is the same here and at a server.
fn is_own_keyword(word: &str) -> bool {
    is_keyword(word) && !FLAGS.iter().any(|(name, _)| name.eq_ignore_ascii_case(word))
}

/// Marks and keywords as in a command.
pub(super) fn flags<'a>(marks: Marks, keywords: impl IntoIterator<Item = &'a String>) -> String {
    let set = FLAGS.iter().filter(|(_, mark)| marks.contains(*mark)).map(|(name, _)| *name);
    let keywords = keywords.into_iter().map(String::as_str).filter(|word| is_own_keyword(word));
    set.chain(keywords).collect::<Vec<_>>().join(" ")
}

/// What a folder keeps of flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) marks: Marks,
    keywords: KeptKeywords,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeptKeywords {
    All,
    /// Those that the folder has, and no others.
    These(Vec<String>),
}

impl Kept {
    /// What a folder keeps of which nothing is known yet.
    pub(super) const ALL: Self = Self { marks: Marks(Marks::KNOWN), keywords: KeptKeywords::All };

    /// What a folder keeps by its `PERMANENTFLAGS`.
    pub(super) fn of(flags: &[Cow<'_, [u8]>]) -> Self {
        let mut marks = marks(flags);
        if !flags.iter().any(|flag| flag.as_ref() == b"\\*") {
            return Self { marks, keywords: KeptKeywords::These(keywords(flags)) };
        }
        marks.0 |= Marks::FORWARDED.0;
        Self { marks, keywords: KeptKeywords::All }
    }

    pub(super) fn keeps(&self, keyword: &str) -> bool {
        match &self.keywords {
            _ if !is_own_keyword(keyword) => false,
            KeptKeywords::All => true,
            KeptKeywords::These(these) => these.iter().any(|one| one.eq_ignore_ascii_case(keyword)),
        }
    }

    /// The flags of a message that has these at the server, and had those before: what the folder does not keep stays.
    pub(super) fn merged(&self, there: &Flags, before: &Flags) -> Flags {
        let own = before.marks.0 & !self.marks.0 & Marks::KNOWN;
        let marks = Marks((there.marks.0 & self.marks.0) | own);
        let stay = before.keywords.iter().filter(|keyword| !self.keeps(keyword)).cloned();
        let stay = Flags { marks, keywords: stay.collect() };
        let there = Flags { marks, keywords: there.keywords.clone() };
        there.changed(&stay, &Flags::default())
    }
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
        let flags = fetch.flags.as_deref()?;
        let marks = marks(flags);
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
            keywords: keywords(flags),
            fetch: false,
        };
        Some(Self { uid, marks, facts, id: message_id(bytes) })
    }

    /// Whether this may be what a server says of a message that another program has just removed: an empty head, or that of Courier.
    pub(super) fn may_be_gone(&self) -> bool {
        let MessageFacts { subject, from, to, date, .. } = &self.facts;
        let is_empty = subject.is_empty() && from.is_empty() && to.is_empty() && date.is_none();
        self.id.is_none() && (is_empty || subject == "message unavailable")
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
            let text = flags(Marks(bits), &[]);
            let words: Vec<_> =
                text.split_whitespace().map(|word| Cow::Borrowed(word.as_bytes())).collect();
            assert_eq!(marks(&words), Marks(bits & Marks::KNOWN));
        }
        let words = |text: &'static str| -> Vec<_> {
            text.split(' ').map(|word| Cow::Borrowed(word.as_bytes())).collect()
        };
        let all = Kept::of(&words("\\* \\Seen"));
        assert_eq!(all.marks, Marks(Marks::READ.0 | Marks::FORWARDED.0));
        assert!(all.keeps("new"));
        let some = Kept::of(&words("\\Seen $Work"));
        assert!(some.keeps("$work") && !some.keeps("new"));
        let said = words("b \\Recent a $Forwarded flagged b ] \\Seen");
        assert_eq!(keywords(&said), ["a", "b"]);
        let set = ["$Forwarded", "x", "answered"].map(str::to_owned);
        assert_eq!(flags(Marks::READ, &set), "\\Seen x");
    }

    #[test]
    fn what_is_not_kept_stays() {
        let flags = |text: &str| text.parse::<Flags>().expect("flags");
        let kept = Kept::of(&[Cow::Borrowed(b"\\Seen"), Cow::Borrowed(b"known")]);
        let merged = kept.merged(&flags("read,known"), &flags("flagged,own"));
        assert_eq!(merged, flags("read,flagged,known,own"));
        let merged = kept.merged(&flags("read"), &flags("flagged,known"));
        assert_eq!(merged, flags("read,flagged"));
        assert_eq!(Kept::ALL.merged(&flags("a"), &flags("read,b")), flags("a"));
    }
}
