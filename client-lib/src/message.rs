//! Messages to be submitted.

use std::fmt;

use sundown_mail::head::{self, Fields};
use sundown_mail::{address, addresses};
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{Report, Route};
use sundown_protocol::{EntryId, SubmitKey};

/// A message to be submitted: RFC 5322 bytes, and an envelope.
///
/// ```
/// use sundown_client::Message;
///
/// let message = Message::parse(b"To: anna@example.org, Bo <bo@localhost>\nSubject: Hi\n\nHi!\n".to_vec())
///     .recipient("cleo@localhost");
/// assert_eq!(message.recipients(), ["anna@example.org", "bo@localhost", "cleo@localhost"]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: Option<String>,
    pub(crate) recipients: Vec<String>,
    pub(crate) key: Option<SubmitKey>,
    pub(crate) report: Report,
    pub(crate) route: Route,
}

impl fmt::Debug for Message {
    /// Shows only sizes, because the text of a message must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes to {} recipients)", self.bytes.len(), self.recipients.len())
    }
}

/// The result of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The entry identifier of the message.
    pub entry: EntryId,
    /// The state of the message: `Queued`, or `Accepted` if its durability was deferred.
    pub state: SubmissionState,
}

impl Message {
    /// Makes a message whose recipients are those of its To, Cc and Bcc fields, and whose sender is that of its From. If the
    /// message was resent, Resent-To, Resent-Cc, Resent-Bcc and Resent-From count instead. A text in these fields that is not an
    /// address becomes a recipient all the same, and submitting is refused then: no recipient is left out silently. LF line ends
    /// and a missing Date or Message-ID are allowed.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let (first, again) = (Named::of(&bytes, ""), Named::of(&bytes, "resent-"));
        let (recipients, from) = match (again.recipients, again.from) {
            (Some(recipients), from) => (recipients, from.or(first.from)),
            (None, _) => (first.recipients.unwrap_or_default(), first.from),
        };
        let route = Route { author: from.clone(), account: None };
        Self { bytes, from, recipients, key: None, report: Report::default(), route }
    }

    /// Makes a message with an empty envelope.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let (bytes, report, route) = (bytes.into(), Report::default(), Route::default());
        Self { bytes, from: None, recipients: Vec::new(), key: None, report, route }
    }

    /// Adds a recipient to the envelope.
    #[must_use]
    pub fn recipient(mut self, address: impl Into<String>) -> Self {
        self.recipients.push(address.into());
        self
    }

    /// Sets the envelope's sender, in place of the message's From. Without either the sender is the profile's identity.
    #[must_use]
    pub fn sender(mut self, address: impl Into<String>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// Makes the profile's identity the envelope's sender, whatever the message's From says.
    #[must_use]
    pub fn without_sender(mut self) -> Self {
        self.from = None;
        self
    }

    /// Sets whose message it is, by which a profile chooses among its transports. [`Message::parse`] takes it from the message's From;
    /// without it the envelope's sender counts.
    #[must_use]
    pub fn author(mut self, address: impl Into<String>) -> Self {
        self.route.author = Some(address.into());
        self
    }

    /// Names the transport of the profile that is to take the message. Submitting is refused if the profile has none of that name, or if
    /// it does not take a recipient. A broker of wire version 2 or older refuses it with `MAPI_E_NO_SUPPORT`.
    #[must_use]
    pub fn account(mut self, transport: impl Into<String>) -> Self {
        self.route.account = Some(transport.into());
        self
    }

    /// What the envelope does not say about the choice of a transport.
    pub(crate) fn route(&self) -> Option<Route> {
        let Route { author, account } = &self.route;
        let author = author.clone().filter(|author| Some(author) != self.from.as_ref());
        (author.is_some() || account.is_some()).then(|| Route { author, account: account.clone() })
    }

    /// Makes a message with an empty envelope from text that a person typed or a program printed. The text is a message if it
    /// begins with a head; otherwise it is the body, also if its first line looks like a field.
    ///
    /// ```
    /// use sundown_client::Message;
    ///
    /// let message = Message::text("Note: this is prose\n").missing_fields(&[("To", "bo".into())]);
    /// assert_eq!(message.bytes(), b"To: bo\n\nNote: this is prose\n");
    /// ```
    pub fn text(bytes: impl Into<Vec<u8>>) -> Self {
        let mut message = Self::new(bytes);
        if !head::is_in(&message.bytes) {
            message.bytes.insert(0, b'\n');
        }
        message
    }

    /// Adds fields in front, except those that the message has. A message without a head gets one. Values stay on their line,
    /// whatever they contain.
    #[must_use]
    pub fn missing_fields(mut self, fields: &[(&str, String)]) -> Self {
        let missing = fields.iter().filter(|(name, _)| !self.has_field(name));
        let missing = missing.map(|(name, value)| (*name, value));
        let front = head::in_front(&self.bytes, missing);
        self.bytes.splice(..0, front);
        self
    }

    /// Removes all fields with this name.
    ///
    /// ```
    /// use sundown_client::Message;
    ///
    /// let message = Message::new("Return-Path: <a@b>\nTo: c\n\nReturn-Path: text\n");
    /// assert_eq!(message.without_fields("return-path").bytes(), b"To: c\n\nReturn-Path: text\n");
    /// ```
    #[must_use]
    pub fn without_fields(mut self, name: &str) -> Self {
        if self.has_field(name) {
            self.bytes = head::without(&self.bytes, name);
        }
        self
    }

    /// Whether the message has a field with this name.
    pub fn has_field(&self, name: &str) -> bool {
        Fields::of(&self.bytes).any(|field| field.is(name))
    }

    /// Sets which reports on its delivery the sender wants. By default it is a report of a failure.
    #[must_use]
    pub fn report(mut self, report: Report) -> Self {
        self.report = report;
        self
    }

    /// Adds a random key if the message has none, for a program that may have to submit it again.
    #[must_use]
    pub fn keyed(mut self) -> Self {
        self.key.get_or_insert_with(crate::mapi::new_key);
        self
    }

    /// Its key, if it has one.
    pub fn submit_key(&self) -> Option<SubmitKey> {
        self.key
    }

    /// Sets the key that makes a repeated submission harmless. Without it each submission makes its own key.
    #[must_use]
    pub fn key(mut self, key: SubmitKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The envelope's sender. If it is empty, no sender is told of a failure; `None` means the profile's identity.
    pub fn envelope_sender(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// The recipients of the envelope.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// The message's bytes, without its envelope.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The message's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The addresses that the fields of a message name.
#[derive(Default)]
struct Named {
    /// `None` if the message has no such field.
    recipients: Option<Vec<String>>,
    from: Option<String>,
}

impl Named {
    /// Reads the fields whose names begin with this prefix, which is in lower case.
    fn of(message: &[u8], prefix: &str) -> Self {
        let mut named = Self::default();
        for field in Fields::of(message) {
            let Some(name) = strip(field.name(), prefix) else { continue };
            let found = || addresses(field.value()).into_iter();
            if ["to", "cc", "bcc"].iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes())) {
                named.recipients.get_or_insert_default().extend(found());
            } else if name.eq_ignore_ascii_case(b"from") && named.from.is_none() {
                // Many a From has only a name, which is no reason to refuse the message.
                named.from = found().next().filter(|from| address::split(from).is_ok());
            }
        }
        named
    }
}

fn strip<'a>(name: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_found_however_they_are_written() {
        let text = "From: \"A, B\" <ab@x.org>\nTo: \"C, D\" <cd@x.org>,\n\tgroup: e@x.org, F <f@x.org>;\n\
                    Cc: undisclosed-recipients:;\nBCC: g@x.org (a comment)\nTo: h@x.org\n\nTo: not@me\n";
        let message = Message::parse(text);
        let wanted = ["cd@x.org", "e@x.org", "f@x.org", "g@x.org", "h@x.org"];
        assert_eq!(message.recipients(), wanted);
        assert_eq!(message.from.as_deref(), Some("ab@x.org"));
    }

    #[test]
    fn users_of_this_host_need_no_domain() {
        let message = Message::parse("To: root, Bo <bo>, cleo@localhost\n\n");
        assert_eq!(message.recipients(), ["root", "bo", "cleo@localhost"]);
    }

    #[test]
    fn what_is_no_message_has_no_recipients() {
        for bytes in [&b""[..], b"\0\0", b"no header at all", b"\n\nTo: a@b", &[0xFF; 1000]] {
            assert!(Message::parse(bytes).recipients().is_empty());
        }
    }

    #[test]
    fn every_field_counts_and_a_resent_message_goes_to_whom_it_was_resent() {
        let text = "Received: x\nTo: a@x, \"b c\"@x\nto: (none)\nCC: d\nBcc:\n e@x,\n f@x\nFrom: g@x\n\nTo: body";
        let message = Message::parse(text);
        assert_eq!(message.recipients(), ["a@x", "\"b c\"@x", "d", "e@x", "f@x"]);
        let again =
            Message::parse(format!("resent-to: h@x\nResent-Cc: i@x\nRESENT-BCC: j\n{text}"));
        assert_eq!(again.recipients(), ["h@x", "i@x", "j"]);
        assert_eq!(again.from.as_deref(), Some("g@x"));
        let from = Message::parse(format!("Resent-From: k@x\nResent-To: h\n{text}"));
        assert_eq!(from.from.as_deref(), Some("k@x"));
        // The message was resent to no recipient, so the first recipients do not get it again.
        assert!(Message::parse(format!("Resent-To:\n{text}")).recipients().is_empty());
        assert_eq!(Message::parse("From: Anna Smith\nTo: a@b\n\n").from, None);
        // Only recipients make a message resent; Resent-From alone does not.
        let message = Message::parse(format!("Resent-From: k@x\n{text}"));
        assert_eq!((message.recipients().len(), message.from.as_deref()), (5, Some("g@x")));
    }

    #[test]
    fn heads_of_any_size_and_shape_are_read() {
        let many = "someone@example.org,\n ".repeat(10_000);
        assert_eq!(Message::parse(format!("To: {many}\n\n")).recipients().len(), 10_000);
        let lines = "Bcc: a@b\n".repeat(10_000);
        assert_eq!(Message::parse(lines).recipients().len(), 10_000);
        let long = "x".repeat(1 << 20);
        let message = Message::parse(format!("Subject: {long}\nTo: a@b\n{long}\nTo: c@d\n"));
        assert_eq!(message.recipients(), ["a@b"]);
        let message = Message::parse(b"Subject: \xff\0\xfe\nX: \xff\n \0\nTo: a@b\r\n\r\n\xff");
        assert_eq!(message.recipients(), ["a@b"]);
        // A line that is not a field ends the head, and the lines after it are text.
        for odd in ["\u{ff}\u{ff}: x", "\0", "no field", ": x", "\rTo: e@f"] {
            let message = Message::parse(format!("To: a@b\n{odd}\nBcc: c@d\n\n"));
            assert_eq!(message.recipients(), ["a@b"], "{odd:?}");
        }
        assert_eq!(Message::parse("no head\nTo: a@b\n\n").recipients(), [""; 0]);
    }

    #[test]
    fn only_missing_fields_are_added() {
        let fields = [("From", "a@b".to_owned()), ("Subject", "one\r\nBcc: c@d".to_owned())];
        let cases = [
            ("To: x\n\nbody", "From: a@b\nSubject: one  Bcc: c@d\nTo: x\n\nbody"),
            ("To: x\r\n\r\nbody", "From: a@b\r\nSubject: one  Bcc: c@d\r\nTo: x\r\n\r\nbody"),
            ("subject : s\nFROM: f\n", "subject : s\nFROM: f\n"),
            ("just a body\n", "From: a@b\nSubject: one  Bcc: c@d\n\njust a body\n"),
            ("\nbody", "From: a@b\nSubject: one  Bcc: c@d\n\nbody"),
            ("", "From: a@b\nSubject: one  Bcc: c@d\n\n"),
        ];
        for (before, after) in cases {
            let message = Message::new(before).missing_fields(&fields);
            assert_eq!(String::from_utf8_lossy(message.bytes()), after, "{before:?}");
        }
    }
}
