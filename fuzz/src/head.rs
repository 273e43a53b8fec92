//! A message that is handed over: whom it is for, what is put in front of it, what must not go out, and the notice of
//! its failure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};

use sundown_client::{Message, addresses};
use sundown_core::provider::Action;
use sundown_mail::address;
use sundown_providers::headers::{Facts, Head, MAX_HEAD, Needed, without_bcc};
use sundown_providers::notice::{Notice, Original, Told};

/// Hands out a few bytes at a time, so that every border between pieces is met.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(out.len()).min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// Bytes as a message that is handed over.
pub fn head(bytes: &[u8]) {
    envelope(bytes);
    completed(bytes);
    hidden(bytes);
    shown(bytes);
    notice(bytes);
}

fn envelope(bytes: &[u8]) {
    let message = Message::parse(bytes);
    assert_eq!(message, Message::parse(bytes), "the same bytes are the same message");
    assert_eq!(message.bytes(), bytes, "nothing is changed by looking");
    for recipient in message.recipients() {
        assert!(!recipient.is_empty(), "nobody is no recipient");
        if address::split(recipient).is_ok() {
            assert_eq!(addresses(recipient), [recipient.as_str()], "an address is itself");
        }
    }
}

/// Fields that are put in front are there, once, and leave the others as they were.
fn completed(bytes: &[u8]) {
    let fields = [("From", "a@b\r\nBcc: x@y".to_owned()), ("Subject", "s".to_owned())];
    let before = Message::parse(bytes);
    let once = before.clone().missing_fields(&fields);
    assert!(once.has_field("from") && once.has_field("subject"), "what was missing is there");
    assert_eq!(once.has_field("bcc"), before.has_field("bcc"), "a value stays in its line");
    assert_eq!(once.clone().missing_fields(&fields), once, "nothing is missing any more");
    let after = Message::parse(once.bytes());
    assert_eq!(after.recipients(), before.recipients(), "whom it is for");
    assert!(once.bytes().ends_with(bytes), "what was written stays");
    let text = Message::text(bytes).missing_fields(&fields);
    assert!(text.has_field("from") && text.bytes().ends_with(bytes));
}

/// Whoever gets a copy unseen is not named in what goes out, however the message comes.
fn hidden(bytes: &[u8]) {
    let mut whole = Vec::new();
    without_bcc(bytes).read_to_end(&mut whole).expect("memory reads");
    for step in [1, 7] {
        let mut pieces = Vec::new();
        without_bcc(Drip(bytes, step)).read_to_end(&mut pieces).expect("memory reads");
        assert_eq!(pieces, whole, "pieces of {step} bytes differ");
    }
    let seen = Message::new(whole);
    assert!(!seen.has_field("bcc") && !seen.has_field("resent-bcc"), "it is named");
    let (before, after) = (Message::new(bytes), &seen);
    for name in ["from", "to", "subject", "x-odd"] {
        assert!(!before.has_field(name) || after.has_field(name), "{name} is lost");
    }
}

fn shown(bytes: &[u8]) {
    let head = Head::of(bytes);
    for text in [head.subject(), head.from(), head.to()] {
        assert!(!text.contains(char::is_control), "{text:?} is not for a line of a table");
    }
    let facts = Facts { record: 7, from: "a@b", submitted: 1_600_000_000_000 };
    let added = [&head.additions(&facts), bytes].concat();
    if bytes.len() < MAX_HEAD / 2 {
        assert_eq!(Head::of(&added).missing(), [], "what was missing is there");
        let nobody = Facts { from: "", ..facts };
        let added = [&head.additions(&nobody), bytes].concat();
        let left = Head::of(&added).missing();
        assert!(left.is_empty() || left == [Needed::From], "{left:?}");
    }
    let same = Message::parse(added);
    assert_eq!(same.recipients(), Message::parse(bytes).recipients(), "whom it is for");
}

/// What a server or a subject says cannot end a part of a notice or begin a field in it.
fn notice(bytes: &[u8]) {
    for original in [Original::Head(bytes.to_vec()), Original::Whole(bytes.to_vec())] {
        notice_with(bytes, original);
    }
}

fn notice_with(bytes: &[u8], original: Original) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let (first, second) = (String::from_utf8_lossy(first), String::from_utf8_lossy(second));
    let actions =
        [Action::Failed, Action::Delayed { until: u64::MAX }, Action::Relayed, Action::Delivered];
    let told = |action| Told { address: &first, reply: &second, action };
    let begin = bytes.len() % actions.len();
    let told: Vec<_> = actions[begin..].iter().copied().map(told).collect();
    // No message can hold the number of its notice, which is made by chance when it failed.
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let record = u128::from(hasher.finish());
    let notice = Notice {
        record,
        host: &second,
        to: &second,
        subject: &first,
        submitted: 1_600_000_000_000,
        now: 1_600_000_100_000,
        told: &told,
        original,
    };
    let text = String::from_utf8_lossy(&notice.compose()).into_owned();
    let ends = text.matches("\r\n").count();
    assert_eq!((text.matches('\n').count(), text.matches('\r').count()), (ends, ends), "{text}");
    let boundary = format!("--=_{record:032x}");
    let borders = text.lines().filter(|line| line.starts_with(&boundary)).count();
    assert_eq!(borders, 4, "three parts and an end: {text}");
    assert!(!Message::parse(text.as_bytes()).has_field("bcc"));
}
