//! Heads and addresses: what is removed and put in front changes nothing else, and what was read is read the same again.

use std::io::Read;

use sundown_mail::head::{Fields, LineEnd, Start, in_front};
use sundown_mail::{address, addresses, bcc};
use sundown_providers::headers::{Head, MAX_HEAD, without_bcc};

/// Bytes as a message whose Bcc is removed, and as an address list.
pub fn mail(bytes: &[u8]) {
    removed(bytes);
    put_in_front(bytes);
    listed(bytes);
}

/// Nothing that reads what goes out finds a `Bcc` there, and everything else is there as it was.
fn removed(bytes: &[u8]) {
    let seen = bcc::without(bytes);
    let mut streamed = Vec::new();
    without_bcc(bytes).read_to_end(&mut streamed).expect("memory reads");
    assert_eq!(streamed, seen, "a transport sends something else");
    assert_eq!(bcc::without(&seen), seen, "what was removed is there again");

    let head = head_of(&seen);
    if seen.len() <= MAX_HEAD {
        assert_eq!(Head::of(&seen).bytes(), head, "a store sees another head");
    }
    assert!(!Fields::of(&seen).any(|field| field.is_hidden()), "it is seen");
    for line in head.split(|b| matches!(b, b'\r' | b'\n')) {
        let hidden = Fields::of(line).any(|field| field.is_hidden());
        assert!(!hidden, "it is seen where every CR ends a line");
    }

    assert!(seen.ends_with(&bytes[head_of(bytes).len()..]), "the body is another one");
    if !has_lone_cr(head_of(bytes)) {
        assert_eq!(seen, removed_by_fields(bytes), "more or less than Bcc was removed");
    }
    let mut rest = bytes.iter();
    let from_input = |part: &[u8]| part.iter().all(|byte| rest.any(|b| b == byte));
    let body = &bytes[head_of(bytes).len()..];
    let (front, end) = (&seen[..seen.len() - body.len()], separator_of_text(bytes));
    let front = front.strip_suffix(end).expect("an empty line in front of text");
    assert!([front, body].into_iter().all(from_input), "something was changed or added");
    seen_by_lenient_readers(&seen);
}

/// The empty line that goes out where a head ends without one.
fn separator_of_text(message: &[u8]) -> &'static [u8] {
    let (head, body) = message.split_at(head_of(message).len());
    let ends = body.is_empty() || body.starts_with(b"\n") || body.starts_with(b"\r\n");
    if head.is_empty() || ends { b"" } else { LineEnd::of(message).as_str().as_bytes() }
}

/// A reader for which every CR and LF ends a line, and nothing but an empty line ends a head, sees no `Bcc` there.
fn seen_by_lenient_readers(seen: &[u8]) {
    if Start::of(seen) == Start::Body {
        return;
    }
    let mut rest = seen;
    while let Some(end) =
        rest.iter().position(|b| matches!(b, b'\r' | b'\n')).filter(|end| *end > 0)
    {
        let hidden = Fields::of(&rest[..end]).any(|field| field.is_hidden());
        assert!(!hidden, "it is seen by a reader that passes over what is no field");
        let long = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + long..];
    }
}

fn head_of(message: &[u8]) -> &[u8] {
    let mut fields = Fields::of(message);
    fields.by_ref().for_each(drop);
    fields.passed()
}

fn has_lone_cr(head: &[u8]) -> bool {
    let behind = head.iter().skip(1).chain([&b'\r']);
    head.iter().zip(behind).any(|(byte, next)| *byte == b'\r' && *next != b'\n')
}

/// The same by another way: the fields that the scanner finds.
fn removed_by_fields(message: &[u8]) -> Vec<u8> {
    let shown = Fields::of(message).filter(|field| !field.is_hidden());
    let kept: Vec<_> = shown.flat_map(|field| field.raw().iter().copied()).collect();
    [&kept, separator_of_text(message), &message[head_of(message).len()..]].concat()
}

/// Fields in front are fields, and what follows is read as before.
fn put_in_front(bytes: &[u8]) {
    let value = String::from_utf8_lossy(bytes);
    let front = in_front(bytes, [("X-First", "1"), ("X-Second", &value)]);
    let whole = [&front, bytes].concat();
    let mut fields = Fields::of(&whole);
    assert!(fields.next().is_some_and(|field| field.is("x-first")));
    assert!(fields.next().is_some_and(|field| field.is("x-second")));
    let before = Fields::of(bytes).map(|field| field.raw());
    assert!(fields.map(|field| field.raw()).eq(before), "the other fields");
    assert_eq!(LineEnd::of(&whole), LineEnd::of(bytes));
    assert_eq!(head_of(&whole).len(), front.len() + head_of(bytes).len() - separator(bytes));
}

/// The empty line that text without a head gets behind its fields.
fn separator(bytes: &[u8]) -> usize {
    match Start::of(bytes) {
        Start::Body => LineEnd::of(bytes).as_str().len(),
        Start::Field | Start::EmptyLine => 0,
    }
}

/// An address that was found is itself, alone and in a list; a list that has anything in it has something to send to or to refuse.
fn listed(bytes: &[u8]) {
    let found = addresses(bytes);
    for one in &found {
        assert!(!one.is_empty(), "nothing is no address");
        if let Ok((mailbox, domain)) = address::split(one) {
            assert_eq!(addresses(one), [one.as_str()], "an address is itself");
            assert!(domain.is_empty() || address::is_domain(domain));
            let at = usize::from(!domain.is_empty());
            assert_eq!(mailbox.len() + at + domain.len(), one.len(), "nothing is lost");
        }
    }
    let good: Vec<_> = found.into_iter().filter(|one| address::split(one).is_ok()).collect();
    assert_eq!(addresses(good.join(",\r\n ")), good, "a list of addresses is these");
}
