//! Other authors in a head: a message from `root` that leaves its host needs a sender that exists elsewhere.
//!
//! The fields From and Sender get other addresses; names and comments stay. Who wrote the message is not lost: the From that was there
//! goes into Reply-To, if answers reach it there and the message says nothing else, or else into `X-Original-From`.
//!
//! A message that is signed, that a list has sent or that was sent again keeps its head: what vouches for it would be broken.

use crate::head::{Field, Fields, LineEnd};
use crate::list;

/// The address in place of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The new address.
    pub address: String,
    /// Whether the old one can be answered.
    pub original: Original,
}

/// Whether an address that was replaced means something elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// It does: it goes into Reply-To.
    Answerable,
    /// Only its own host knows it.
    Local,
}

/// The fields of a message's head with other addresses in From and Sender. `new` says what replaces an address, or a text that is none.
/// `None` if nothing is replaced, and of a message whose head must stay as it is. The result takes the place of as many bytes as
/// [`fields`] counts.
///
/// ```
/// use sundown_mail::author::{self, Original, Replacement};
///
/// let new = |address: &str| match address {
///     "root" => Some(Replacement { address: "anna@example.org".into(), original: Original::Local }),
///     _ => None,
/// };
/// let message = b"From: root (Cron Daemon)\nTo: bo@example.org\n\nHi\n";
/// let head = author::replaced(message, new).unwrap();
/// assert_eq!(
///     head,
///     b"From: anna@example.org (Cron Daemon)\nX-Original-From: root (Cron Daemon)\nTo: bo@example.org\n"
/// );
/// assert_eq!(author::fields(message), b"From: root (Cron Daemon)\nTo: bo@example.org\n".len());
/// ```
pub fn replaced(head: &[u8], new: impl Fn(&str) -> Option<Replacement>) -> Option<Vec<u8>> {
    if Fields::of(head).any(|field| keeps_its_head(&field)) {
        return None;
    }
    let mut is_answered = Fields::of(head).any(|field| field.is("Reply-To"));
    let end = LineEnd::of(head).as_str().as_bytes();
    let (mut output, mut changed) = (Vec::with_capacity(head.len() + 128), false);
    for field in Fields::of(head) {
        let is_from = field.is("From");
        let other = if is_from || field.is("Sender") { other(&field, &new) } else { None };
        let Some((value, original)) = other else {
            output.extend_from_slice(field.raw());
            continue;
        };
        changed = true;
        let raw = field.raw();
        output.extend_from_slice(&raw[..raw.len() - field.value().len()]);
        output.extend_from_slice(&value);
        if is_from {
            if !value.ends_with(b"\n") {
                output.extend_from_slice(end);
            }
            let kept = original == Original::Answerable && !is_answered;
            is_answered |= kept;
            if !field.value().trim_ascii().is_empty() {
                output.extend_from_slice(if kept { b"Reply-To:" } else { b"X-Original-From:" });
                output.extend_from_slice(field.value());
            }
        }
    }
    changed.then_some(output)
}

/// How many bytes of a message, or of its beginning, are fields of its head.
pub fn fields(message: &[u8]) -> usize {
    let mut fields = Fields::of(message);
    fields.by_ref().for_each(drop);
    fields.passed().len()
}

/// The author of a message: the first address of its From, or, if it was sent again, of its Resent-From.
///
/// ```
/// use sundown_mail::author;
///
/// assert_eq!(author::of(b"From: Anna <anna@work.example>\n\n"), Some("anna@work.example".into()));
/// assert_eq!(author::of(b"From: a@b\nResent-From: c@d\n\n"), Some("c@d".into()));
/// assert_eq!(author::of(b"To: a@b\n\n"), None);
/// ```
pub fn of(message: &[u8]) -> Option<String> {
    let (mut from, mut again) = (None, None);
    for field in Fields::of(message) {
        let found = match () {
            () if field.is("From") => &mut from,
            () if field.is("Resent-From") => &mut again,
            () => continue,
        };
        if found.is_none() {
            *found = list::addresses(field.value()).into_iter().next();
        }
    }
    again.or(from)
}

/// A field with other addresses: its value, and whether all that were replaced can be answered.
fn other(
    field: &Field<'_>,
    new: &impl Fn(&str) -> Option<Replacement>,
) -> Option<(Vec<u8>, Original)> {
    // The line end is no part of the list, also where a quote or a comment is left open.
    let value = field.value();
    let list = value.trim_ascii_end();
    let address = |address: &str| new(address).map(|replacement| replacement.address);
    let all = list::addresses(list);
    let mut written = match &all[..] {
        // An author without an address gets one.
        [] if field.is("From") => [b" ", new("")?.address.as_bytes()].concat(),
        _ => single(&all, address).map_or_else(|| list::replaced(list, address), Some)?,
    };
    written.extend_from_slice(&value[list.len()..]);
    let answerable = all.iter().filter_map(|a| new(a)).all(|r| r.original == Original::Answerable);
    let answerable = answerable && !all.is_empty();
    Some((written, if answerable { Original::Answerable } else { Original::Local }))
}

/// The only address, where several become the same one.
fn single(all: &[String], new: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    let [first, rest @ ..] = all else { return None };
    let known = |address: &String| new(address).unwrap_or_else(|| address.clone());
    let one = known(first);
    let same = !rest.is_empty() && rest.iter().all(|address| known(address) == one);
    let changes = all.iter().any(|address| new(address).is_some());
    (same && changes).then(|| [b" ", one.as_bytes()].concat())
}

/// A value without comments and blanks.
fn bare(value: &[u8]) -> Vec<u8> {
    let (mut bare, mut depth, mut escaped) = (Vec::new(), 0_usize, false);
    for &byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            byte if depth == 0 && !byte.is_ascii_whitespace() => bare.push(byte),
            _ => {}
        }
    }
    bare
}

/// Whether a field says that the head must stay as it is.
fn keeps_its_head(field: &Field<'_>) -> bool {
    let starts = |text: &[u8], with: &[u8]| {
        text.len() >= with.len() && text[..with.len()].eq_ignore_ascii_case(with)
    };
    field.is("DKIM-Signature")
        || field.is("List-Id")
        || starts(field.name(), b"Resent-")
        || field.is("Content-Type") && starts(&bare(field.value()), b"multipart/signed")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addresses;

    const ME: &str = "me@home.example";

    /// Everything else becomes that. What ends with `.example` can be answered.
    fn to_me(address: &str) -> Option<Replacement> {
        let original =
            if address.ends_with(".example") { Original::Answerable } else { Original::Local };
        (address != ME).then(|| Replacement { address: ME.to_owned(), original })
    }

    fn shown(message: &str) -> Option<String> {
        replaced(message.as_bytes(), to_me).map(|head| String::from_utf8(head).expect("text"))
    }

    #[test]
    fn what_was_there_is_kept_where_it_can_be_answered() {
        let cases = [
            ("From: root\n\n", "From: me@home.example\nX-Original-From: root\n"),
            (
                "FROM : Bo <bo@work.example>\r\nTo: x\r\n\r\n",
                "FROM : Bo <me@home.example>\r\nReply-To: Bo <bo@work.example>\r\nTo: x\r\n",
            ),
            (
                "Reply-To: c@d\nFrom: bo@work.example\n",
                "Reply-To: c@d\nFrom: me@home.example\nX-Original-From: bo@work.example\n",
            ),
            (
                "From: bo@work.example, root\n",
                "From: me@home.example\nX-Original-From: bo@work.example, root\n",
            ),
            (
                "From: bo@work.example,\n me@home.example\n",
                "From: me@home.example\nReply-To: bo@work.example,\n me@home.example\n",
            ),
            (
                "From: a@work.example\nFrom: b@work.example\n",
                "From: me@home.example\nReply-To: a@work.example\nFrom: me@home.example\n\
                 X-Original-From: b@work.example\n",
            ),
            (
                "Sender: root@vm\nFrom: me@home.example\n",
                "Sender: me@home.example\nFrom: me@home.example\n",
            ),
            ("From: (open root\n\n", "From: me@home.example\nX-Original-From: (open root\n"),
            ("From: root", "From: me@home.example\nX-Original-From: root"),
            ("From:\n", "From: me@home.example\n"),
            ("From: <>\n", "From: me@home.example\nX-Original-From: <>\n"),
            ("From: who:;\n", "From: me@home.example\nX-Original-From: who:;\n"),
        ];
        for (message, wanted) in cases {
            assert_eq!(shown(message).as_deref(), Some(wanted), "{message:?}");
        }
    }

    #[test]
    fn what_is_vouched_for_stays() {
        let stays = [
            "DKIM-Signature: v=1\nFrom: root\n\n",
            "From: root\nlist-id: <l.example>\n\n",
            "Resent-From: root\nFrom: root\n\n",
            "From: root\nContent-Type:\n multipart/Signed; boundary=x\n\n",
            "From: root\nContent-Type: (c) multipart / signed; boundary=x\n\n",
            "From: me@home.example\n\n",
            "Subject: x\n\nFrom: root\n",
            "text\nFrom: root\n",
            "",
        ];
        for message in stays {
            assert_eq!(shown(message), None, "{message:?}");
        }
        let changes = ["From: root\nContent-Type: multipart/mixed\n", "From: root\nResent: x\n"];
        assert!(changes.iter().all(|message| shown(message).is_some()));
    }

    proptest! {
        /// However a head is written, its other fields stay, and every author is the new one.
        #[test]
        fn other_fields_stay(
            lines in prop::collection::vec(
                prop::sample::select(&[
                    "From: a", "Sender: b@c (d", "from: \"e\" <f>,", " g@h.example", "To: i", "Reply-To: j",
                    "Subject: From: k", "\tl", "X: (", "From:", "Sender: <>", "From: me@home.example",
                ][..]),
                0..8,
            ),
            crlf: bool,
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let message: String = lines.iter().map(|line| format!("{line}{end}")).collect();
            let head = replaced(message.as_bytes(), to_me).unwrap_or_else(|| message[..fields(message.as_bytes())].into());
            let ours = |field: &Field<'_>| {
                ["From", "Sender", "Reply-To", "X-Original-From"].iter().any(|name| field.is(name))
            };
            let rest = |head| Fields::of(head).filter(|f| !ours(f)).map(|f| f.raw().to_vec()).collect::<Vec<_>>();
            prop_assert_eq!(rest(&head), rest(message.as_bytes()));
            for field in Fields::of(&head).filter(|f| f.is("From") || f.is("Sender")) {
                prop_assert!(addresses(field.value()).iter().all(|a| a == ME));
            }
            prop_assert_eq!(fields(&head), head.len());
            prop_assert_eq!(replaced(&head, to_me), None);
        }
    }
}
