//! What an IMAP server says: bounded, the same in whatever pieces it comes, and read as `imap-codec` reads it where that can.

use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::core::{IString, NString};
use imap_codec::imap_types::fetch::MessageDataItem;
use imap_codec::imap_types::flag::FlagFetch;
use imap_codec::imap_types::mailbox::Mailbox;
use imap_codec::imap_types::response::{self as other, Code, StatusKind};
use imap_codec::imap_types::sequence::{SeqOrUid, Sequence};
use imap_codec::imap_types::status::StatusDataItem;
use sundown_providers::imap::{About, Broken, Data, End, Fetch, Inbox, Note, Response, Said};

/// The length from which on a list can have more items than we take, in bytes.
const LONG: usize = 8 << 10;

/// Bytes as what an IMAP server says.
pub fn imap(bytes: &[u8]) {
    let whole = cut(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(cut(bytes, piece), whole, "pieces of {piece} bytes differ");
    }
    for response in &whole.0 {
        let read = Response::read(response);
        if let Ok(Response::Data(Data::Fetch(message))) = &read {
            assert!(message.place > 0 && message.uid != Some(0), "{message:?} is nowhere");
        }
        if response.len() >= LONG {
            continue;
        }
        let line = [response, &b"\r\n"[..]].concat();
        if let Ok((b"", said)) = ResponseCodec::default().decode(&line) {
            compare(&said, &read);
        }
    }
}

/// The responses, up to what cannot be cut.
fn cut(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Broken>) {
    let (mut inbox, mut responses) = (Inbox::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        inbox.feed(piece);
        loop {
            match inbox.response() {
                Ok(None) => break,
                Ok(Some(response)) => responses.push(response.to_vec()),
                Err(broken) => return (responses, Some(broken)),
            }
        }
    }
    (responses, None)
}

type Ours<'a> = Result<Response<'a>, sundown_providers::imap::Garbled>;

/// What the codec reads, we read as well.
fn compare(theirs: &other::Response<'_>, ours: &Ours<'_>) {
    match theirs {
        other::Response::CommandContinuationRequest(_) => {
            assert!(matches!(ours, Ok(Response::GoOn(_))), "{theirs:?}: {ours:?}");
        }
        other::Response::Status(status) => compare_status(status, ours),
        other::Response::Data(data) => compare_data(data, ours),
    }
}

fn compare_status(theirs: &other::Status<'_>, ours: &Ours<'_>) {
    let code = match (theirs, ours) {
        (other::Status::Untagged(body), Ok(Response::Words { about, said })) => {
            let wanted = match body.kind {
                StatusKind::Ok => About::Ok,
                StatusKind::No => About::No,
                StatusKind::Bad => About::Bad,
            };
            assert_eq!(*about, wanted, "{theirs:?}");
            (&body.code, said)
        }
        (other::Status::Tagged(tagged), Ok(Response::Done { tag, end, said })) => {
            let wanted = match tagged.body.kind {
                StatusKind::Ok => End::Ok,
                StatusKind::No => End::No,
                StatusKind::Bad => End::Bad,
            };
            assert_eq!((*tag, *end), (tagged.tag.as_ref().as_bytes(), wanted), "{theirs:?}");
            (&tagged.body.code, said)
        }
        (other::Status::Bye(bye), Ok(Response::Words { about: About::Bye, said })) => {
            (&bye.code, said)
        }
        _ => panic!("{theirs:?}: {ours:?}"),
    };
    compare_note(code.0.as_ref(), code.1);
}

fn compare_note(theirs: Option<&Code<'_>>, ours: &Said<'_>) {
    let wanted = match theirs {
        Some(Code::UidNext(number)) => Note::UidNext(number.get()),
        Some(Code::UidValidity(number)) => Note::UidValidity(number.get()),
        Some(Code::UidNotSticky) => Note::UidNotSticky,
        Some(Code::AppendUid { uid_validity, uid }) => {
            let uids = sundown_providers::imap::Set::of(uid.get(), uid.get());
            Note::AppendUid { validity: uid_validity.get(), uids }
        }
        _ => return,
    };
    assert_eq!(ours.note.as_ref(), Some(&wanted), "{ours:?}");
}

fn compare_data(theirs: &other::Data<'_>, ours: &Ours<'_>) {
    if let other::Data::Vanished { known_uids, .. } = theirs
        && known_uids.0.as_ref().iter().any(has_star)
    {
        // Servers have no star to send.
        return;
    }
    let Ok(Response::Data(ours)) = ours else { panic!("{theirs:?}: {ours:?}") };
    match (theirs, ours) {
        (other::Data::Exists(number), Data::Exists(ours))
        | (other::Data::Recent(number), Data::Recent(ours)) => assert_eq!(number, ours),
        (other::Data::Expunge(number), Data::Expunge(ours)) => assert_eq!(number.get(), *ours),
        (other::Data::Search(numbers, modseq), Data::Search { numbers: ours, modseq: change }) => {
            assert!(numbers.iter().map(|number| number.get()).eq(ours.iter().copied()));
            assert_eq!(
                modseq.map(|modseq| modseq.get()).filter(|modseq| *modseq >> 63 == 0),
                *change
            );
        }
        (other::Data::Capability(all), Data::Capability(ours)) => {
            assert_eq!(all.as_ref().len(), ours.len())
        }
        (other::Data::Enabled { capabilities }, Data::Enabled(ours)) => {
            assert_eq!(capabilities.len(), ours.len());
        }
        (other::Data::Flags(flags), Data::Flags(ours)) => {
            same_words(flags.iter().map(ToString::to_string), ours);
        }
        (other::Data::List { items, delimiter, mailbox }, Data::List(ours)) => {
            same_words(items.iter().map(ToString::to_string), &ours.attributes);
            let delimiter = delimiter.as_ref().map(|one| one.inner());
            assert_eq!(delimiter, ours.delimiter.map(char::from));
            same_folder(mailbox, &ours.name);
        }
        (other::Data::Status { mailbox, items }, Data::Status(ours)) => {
            same_folder(mailbox, &ours.name);
            let (mut messages, mut uid_next, mut uid_validity) = (None, None, None);
            for item in items.iter() {
                match item {
                    StatusDataItem::Messages(number) => messages = Some(*number),
                    StatusDataItem::UidNext(number) => uid_next = Some(number.get()),
                    StatusDataItem::UidValidity(number) => uid_validity = Some(number.get()),
                    _ => {}
                }
            }
            let theirs = (messages, uid_next, uid_validity);
            assert_eq!(theirs, (ours.messages, ours.uid_next, ours.uid_validity));
        }
        (
            other::Data::Vanished { earlier, known_uids },
            Data::Vanished { earlier: before, uids },
        ) => {
            assert_eq!(earlier, before);
            let ranges = known_uids.0.as_ref().iter().map(range);
            assert!(ranges.eq(uids.ranges().iter().copied()), "{known_uids:?}: {uids:?}");
        }
        (other::Data::Fetch { seq, items }, Data::Fetch(ours)) => {
            assert_eq!(seq.get(), ours.place);
            compare_message(items.as_ref(), ours);
        }
        (_, Data::Other(_)) => {}
        _ => panic!("{theirs:?}: {ours:?}"),
    }
}

fn compare_message(items: &[MessageDataItem<'_>], ours: &Fetch<'_>) {
    let mut sections = ours.sections.iter();
    let (mut uid, mut size, mut modseq, mut received, mut flags) = (None, None, None, None, None);
    for item in items {
        match item {
            MessageDataItem::Uid(number) => uid = Some(number.get()),
            MessageDataItem::Rfc822Size(number) => size = Some(u64::from(*number)),
            MessageDataItem::ModSeq(number) => modseq = Some(number.get()),
            MessageDataItem::InternalDate(date) => {
                received = Some(date.as_ref().timestamp_millis())
            }
            MessageDataItem::Flags(words) => flags = Some(words),
            MessageDataItem::BodyExt { origin, data, .. } => {
                let section = sections.next().expect("it is read as well");
                assert_eq!(origin.map(u64::from), section.origin);
                assert_eq!(bytes_of(data), section.bytes.as_deref());
            }
            _ => {}
        }
    }
    assert_eq!((uid, size), (ours.uid, ours.size), "{items:?}");
    if modseq.is_none_or(|modseq| modseq >> 63 == 0) {
        assert_eq!(modseq, ours.modseq, "{items:?}");
    }
    if received.is_some() {
        assert_eq!(received, ours.received, "{items:?}");
    }
    if let Some(flags) = flags {
        same_words(
            flags.iter().map(|flag| match flag {
                FlagFetch::Flag(flag) => flag.to_string(),
                FlagFetch::Recent => "\\Recent".to_owned(),
            }),
            ours.flags.as_deref().unwrap_or_default(),
        );
    }
    assert!(sections.next().is_none(), "{items:?}: {ours:?}");
}

fn bytes_of<'a>(text: &'a NString<'_>) -> Option<&'a [u8]> {
    text.0.as_ref().map(|text| match text {
        IString::Literal(literal) => literal.as_ref(),
        IString::Quoted(quoted) => quoted.as_ref().as_bytes(),
    })
}

/// The codec writes flags that it knows in its own letters.
fn same_words(theirs: impl Iterator<Item = String>, ours: &[impl AsRef<[u8]>]) {
    let theirs: Vec<_> = theirs.map(|word| word.to_ascii_lowercase()).collect();
    let lossy = |word: &[u8]| String::from_utf8_lossy(word).to_ascii_lowercase();
    assert_eq!(theirs, ours.iter().map(|word| lossy(word.as_ref())).collect::<Vec<_>>());
}

fn same_folder(theirs: &Mailbox<'_>, ours: &[u8]) {
    match theirs {
        Mailbox::Inbox => assert!(ours.eq_ignore_ascii_case(b"INBOX")),
        Mailbox::Other(name) => assert_eq!(name.as_ref(), ours),
    }
}

fn has_star(sequence: &Sequence) -> bool {
    match sequence {
        Sequence::Single(one) => *one == SeqOrUid::Asterisk,
        Sequence::Range(first, last) => [first, last].contains(&&SeqOrUid::Asterisk),
    }
}

fn range(sequence: &Sequence) -> (u32, u32) {
    let number = |one: &SeqOrUid| match one {
        SeqOrUid::Value(number) => number.get(),
        SeqOrUid::Asterisk => u32::MAX,
    };
    match sequence {
        Sequence::Single(one) => (number(one), number(one)),
        Sequence::Range(first, last) => {
            (number(first).min(number(last)), number(first).max(number(last)))
        }
    }
}
