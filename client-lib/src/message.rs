//! Messages on their way into the queue.

use std::fmt;

use mail_parser::{Address, HeaderName, MessageParser};
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::Report;
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
}

impl fmt::Debug for Message {
    /// What people wrote is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes to {} recipients)", self.bytes.len(), self.recipients.len())
    }
}

/// A message that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Its entry identifier.
    pub entry: EntryId,
    /// Its state: `Queued`, or `Accepted` when its durability was deferred.
    pub state: SubmissionState,
}

impl Message {
    /// A message whose recipients are those of its To, Cc and Bcc fields, and whose sender is that of its From.
    /// LF line ends, a missing Date or Message-ID are fine.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let parsed = MessageParser::default().parse_headers(&bytes[..]);
        let mut recipients = Vec::new();
        let mut from = None;
        if let Some(parsed) = &parsed {
            for field in parsed.headers() {
                match field.name {
                    HeaderName::To | HeaderName::Cc | HeaderName::Bcc => {
                        recipients.extend(field.value.as_address().into_iter().flat_map(addresses));
                    }
                    HeaderName::From if from.is_none() => {
                        from = field.value.as_address().and_then(|a| addresses(a).next());
                    }
                    _ => {}
                }
            }
        }
        Self { bytes, from, recipients, key: None, report: Report::default() }
    }

    /// A message with nothing in its envelope yet.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let (bytes, report) = (bytes.into(), Report::default());
        Self { bytes, from: None, recipients: Vec::new(), key: None, report }
    }

    /// Adds a recipient to the envelope.
    #[must_use]
    pub fn recipient(mut self, address: impl Into<String>) -> Self {
        self.recipients.push(address.into());
        self
    }

    /// The envelope's sender, in place of the message's From. Without either it is the profile's identity.
    #[must_use]
    pub fn sender(mut self, address: impl Into<String>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// What the sender wants to be told of its delivery. Without this, when it failed.
    #[must_use]
    pub fn report(mut self, report: Report) -> Self {
        self.report = report;
        self
    }

    /// The key that makes a repeat harmless. Without one each submit makes its own.
    #[must_use]
    pub fn key(mut self, key: SubmitKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The envelope's recipients.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// The message's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn addresses<'a>(field: &'a Address<'a>) -> impl Iterator<Item = String> + 'a {
    field.iter().filter_map(|a| a.address().or_else(|| local(a))).map(str::to_owned)
}

/// A word without a domain is a user of this host.
fn local<'a>(written: &'a mail_parser::Addr<'a>) -> Option<&'a str> {
    written.name().filter(|name| !name.contains(char::is_whitespace))
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
}
