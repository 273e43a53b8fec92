//! Delivery status notifications, which tell a sender that a message failed for good, is delayed, or was handed over (RFC 3464, RFC 6533).
//!
//! ```text
//!  multipart/report
//!  ├─ text/plain                         for people
//!  ├─ message/delivery-status            for programs; message/global-delivery-status if a mailbox is beyond ASCII
//!  └─ text/rfc822-headers                the head of the message; message/global-headers if it is UTF-8 beyond ASCII
//!     or message/rfc822                  the whole message; message/global if its head is UTF-8 beyond ASCII
//! ```

use std::fmt::Write as _;

use sundown_core::expired::last_answer;
use sundown_core::provider::{Action, Submission};
use sundown_mail::head::{LineEnd, Start};
use sundown_mail::status::{is_enhanced, is_failure};
use sundown_mail::{address, bcc, encoding};

use crate::headers::{self, Head, clean, date};

/// The largest message, in bytes, that a notification returns as a whole. Of a larger one it returns the head.
pub const MAX_RETURNED: usize = 1 << 20;

/// The contents of a notification.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// The notification's own record.
    pub record: u128,
    /// The name of this host.
    pub host: &'a str,
    /// The address of the notification: the sender of the message that it is about.
    pub to: &'a str,
    /// The subject of that message.
    pub subject: &'a str,
    /// When that message was submitted, in milliseconds since 1970.
    pub submitted: u64,
    /// When that became of it what is told, in milliseconds since 1970.
    pub now: u64,
    /// What became of which recipients.
    pub told: &'a [Told<'a>],
    /// What of the message is returned.
    pub original: Original,
}

/// What of a message its notification returns.
#[derive(Debug, Clone)]
pub enum Original {
    /// The head: the beginning of the message has at least that.
    Head(Vec<u8>),
    /// The same, because the whole message, which the sender wants, is larger than [`MAX_RETURNED`].
    HeadOfLarge(Vec<u8>),
    /// The same, because the whole message has a NUL in it, which no server must take (RFC 3030).
    HeadOfBinary(Vec<u8>),
    /// The whole message.
    Whole(Vec<u8>),
}

/// A recipient of a message, and what became of the message there.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The address.
    pub address: &'a str,
    /// The transport's latest reply.
    pub reply: &'a str,
    /// What became of it.
    pub action: Action,
}

/// The display name in front of the sender address of notifications.
const NAME: &str = "Mail Delivery System";

/// Whether a sender is that of notifications.
pub(crate) fn is_sender(from: &str) -> bool {
    from.starts_with(NAME) && from.contains("<MAILER-DAEMON@")
}

/// The subject of a notification of failures.
pub const SUBJECT: &str = "Undelivered mail returned to sender";

/// The subject of a notification of a delay.
pub const DELAYED: &str = "Delayed mail, which is still being tried";

/// The subject of a notification of success.
pub const SUCCESS: &str = "Report about mail that was handed over";

/// How a part is encoded (RFC 2045, 6), from the narrowest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Encoding {
    SevenBit,
    /// ASCII after encoding.
    QuotedPrintable,
    EightBit,
    Binary,
}

impl Encoding {
    /// The encoding in which these bytes are what they are.
    fn of(bytes: &[u8]) -> Self {
        let is_long = |line: &[u8]| line.len() > encoding::MAX_PLAIN + "\r\n".len();
        if encoding::is_plain(bytes) {
            Self::SevenBit
        } else if bytes.contains(&0) || bytes.split_inclusive(|b| *b == b'\n').any(is_long) {
            Self::Binary
        } else {
            Self::EightBit
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::QuotedPrintable => "quoted-printable",
            Self::EightBit => "8bit",
            Self::Binary => "binary",
        }
    }
}

/// A part of a notification.
struct Part {
    kind: &'static str,
    encoding: Encoding,
    body: Vec<u8>,
}

impl Part {
    /// A part that may be encoded: text in lines that are too long for 8bit is quoted-printable.
    fn text(kind: &'static str, body: Vec<u8>) -> Self {
        match Encoding::of(&body) {
            Encoding::Binary => Self::quoted(kind, &body),
            encoding => Self { kind, encoding, body },
        }
    }

    fn quoted(kind: &'static str, body: &[u8]) -> Self {
        let body = encoding::quoted_printable(body, LineEnd::CrLf);
        Self { kind, encoding: Encoding::QuotedPrintable, body }
    }

    /// A part that is a message. Those have no encoding of their own (RFC 2046, 5.2.1).
    fn message(kind: &'static str, body: Vec<u8>) -> Self {
        Self { kind, encoding: Encoding::of(&body), body }
    }

    fn write(&self, boundary: &str, notice: &mut Vec<u8>) {
        let Self { kind, encoding, body } = self;
        let encoding = encoding.name();
        let head = format!(
            "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        );
        notice.extend_from_slice(head.as_bytes());
        notice.extend_from_slice(body);
        notice.extend_from_slice(b"\r\n");
    }
}

impl Notice<'_> {
    /// The message, with CRLF line ends. It has no envelope.
    pub fn compose(&self) -> Vec<u8> {
        // The record is random and new, so no earlier text can contain it.
        let boundary = format!("=_{:032x}", self.record);
        let parts = [self.for_people(), self.for_programs(), self.returned()];
        let widest = parts.iter().map(|part| part.encoding).max();
        // A multipart names the widest encoding within, and is not encoded itself (RFC 2045, 6.4).
        let widest = widest.filter(|e| *e > Encoding::QuotedPrintable);
        let head = self.head(&boundary, widest.unwrap_or(Encoding::SevenBit));
        let mut notice = head.into_bytes();
        for part in parts {
            part.write(&boundary, &mut notice);
        }
        notice.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        notice
    }

    fn head(&self, boundary: &str, encoding: Encoding) -> String {
        let host = domain(self.host);
        format!(
            "Return-Path: <>\r\n\
             Date: {}\r\n\
             From: {NAME} <MAILER-DAEMON@{host}>\r\n\
             To: {}\r\n\
             Subject: {}\r\n\
             Message-ID: <{:032x}@{host}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\
             Content-Transfer-Encoding: {}\r\n\
             \r\n",
            date(self.now),
            clean(&address::to_ascii(self.to)),
            self.subject_line(),
            self.record,
            encoding.name(),
        )
    }

    /// The subject says what matters most.
    fn subject_line(&self) -> &'static str {
        let what = self.told.iter().map(|told| Group::of(told.action)).min();
        match what.unwrap_or(Group::Failed) {
            Group::Failed => SUBJECT,
            Group::Delayed => DELAYED,
            Group::Relayed | Group::Delivered => SUCCESS,
        }
    }

    fn for_people(&self) -> Part {
        let mut about = format!(
            "Subject: {}\r\nSubmitted: {}\r\n\r\n",
            clean(self.subject),
            date(self.submitted)
        );
        let mut text = String::new();
        for group in Group::ALL {
            let members: Vec<_> =
                self.told.iter().filter(|told| Group::of(told.action) == group).collect();
            let Some(first) = members.first() else { continue };
            if !text.is_empty() {
                text += "\r\n";
            }
            // Which message it is about stands behind the first sentence.
            let _ = write!(text, "{}\r\n\r\n{about}", sentence(first.action));
            about.clear();
            for told in members {
                let _ = write!(text, "{}:\r\n    {}\r\n", clean(told.address), told.words());
            }
        }
        if let Original::HeadOfLarge(_) = self.original {
            let _ = write!(
                text,
                "\r\nThe whole message has more than {} MiB and is not returned. Its head follows.\r\n",
                MAX_RETURNED >> 20
            );
        }
        if let Original::HeadOfBinary(_) = self.original {
            text +=
                "\r\nThe whole message has a NUL in it and is not returned. Its head follows.\r\n";
        }
        Part::text("text/plain; charset=utf-8", text.into_bytes())
    }

    fn for_programs(&self) -> Part {
        let mut text = format!(
            "Reporting-MTA: dns; {}\r\n\
             Arrival-Date: {}\r\n",
            domain(self.host),
            date(self.submitted)
        );
        for told in self.told {
            let _ = write!(text, "\r\n{}", told.fields(self.now));
        }
        let kind = if text.is_ascii() {
            "message/delivery-status"
        } else {
            "message/global-delivery-status"
        };
        Part::text(kind, text.into_bytes())
    }

    fn returned(&self) -> Part {
        match &self.original {
            Original::Head(beginning)
            | Original::HeadOfLarge(beginning)
            | Original::HeadOfBinary(beginning) => head_of(Head::of(beginning).bytes()),
            Original::Whole(message) => whole(message),
        }
    }
}

/// The message that goes on when there are more notifications than are forwarded, with CRLF line ends. The store adds its Message-ID.
pub(crate) fn more(host: &str, submission: &Submission) -> Vec<u8> {
    let host = domain(host);
    let to: Vec<_> = submission.recipients.iter().map(|r| address::to_ascii(&r.address)).collect();
    format!(
        "Date: {}\r\n\
         From: {NAME} <MAILER-DAEMON@{host}>\r\n\
         To: {}\r\n\
         Subject: Many undelivered mails on {host}\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         On {host}, more messages come back than notifications are forwarded in a minute.\r\n\
         The other notifications of this minute are only in the Inbox of profile {}.\r\n\
         \r\n\
         `sundown queue list` shows the messages that came back, and why.\r\n",
        date(submission.submitted),
        clean(&to.join(", ")),
        submission.profile,
    )
    .into_bytes()
}

/// A host's name as a domain.
fn domain(host: &str) -> String {
    let ascii = address::domain_to_ascii(host.strip_suffix('.').unwrap_or(host));
    ascii.map_or_else(|| "localhost".to_owned(), |host| host.to_lowercase())
}

fn head_of(head: &[u8]) -> Part {
    let mut lines = Vec::new();
    // Some readers take a lone CR for the end of a line, so that what follows could pass for a field of the notice.
    for line in encoding::with_line_ends(&bcc::without(head), LineEnd::CrLf).split(|b| *b == b'\n')
    {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        lines.extend(line.iter().map(|b| if *b == b'\r' { b' ' } else { *b }));
        lines.extend_from_slice(b"\r\n");
    }
    lines.truncate(lines.len() - "\r\n".len());
    match Beyond::of(&lines) {
        Beyond::Nothing => Part::text("text/rfc822-headers", lines),
        Beyond::Utf8 => Part::text("message/global-headers", lines),
        // The bytes are what they were, in a form that claims no character set.
        Beyond::Others => Part::quoted("text/rfc822-headers", &lines),
    }
}

fn whole(message: &[u8]) -> Part {
    let mut sent = Vec::with_capacity(message.len());
    // On the wire a CR without LF became a line end, too.
    let shown = bcc::without(message);
    let mut is_head = Start::of(&shown) == Start::Field;
    for line in shown.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l));
        is_head &= !line.is_empty();
        if is_head {
            // Within a field it did not.
            let end = line.iter().rposition(|b| *b != b'\r').map_or(0, |last| last + 1);
            sent.extend(line[..end].iter().map(|b| if *b == b'\r' { b' ' } else { *b }));
            sent.extend_from_slice(b"\r\n");
            continue;
        }
        for line in line.split(|b| *b == b'\r') {
            sent.extend_from_slice(line);
            sent.extend_from_slice(b"\r\n");
        }
    }
    let kind = match Beyond::of(Head::of(&sent).bytes()) {
        Beyond::Utf8 => "message/global",
        Beyond::Nothing | Beyond::Others => "message/rfc822",
    };
    Part::message(kind, sent)
}

/// What a head has beyond ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    Nothing,
    Utf8,
    Others,
}

impl Beyond {
    fn of(head: &[u8]) -> Self {
        match std::str::from_utf8(head) {
            Ok(text) if text.is_ascii() => Self::Nothing,
            Ok(_) => Self::Utf8,
            Err(_) => Self::Others,
        }
    }
}

/// What a notification says of recipients, from what matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Failed,
    Delayed,
    Relayed,
    Delivered,
}

impl Group {
    const ALL: [Self; 4] = [Self::Failed, Self::Delayed, Self::Relayed, Self::Delivered];

    fn of(action: Action) -> Self {
        match action {
            Action::Failed => Self::Failed,
            Action::Delayed { .. } => Self::Delayed,
            Action::Relayed => Self::Relayed,
            Action::Delivered => Self::Delivered,
        }
    }

    /// The word of RFC 3464.
    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
        }
    }
}

/// What became of recipients, in words.
fn sentence(action: Action) -> String {
    match action {
        Action::Failed => {
            "Your message did not reach all of its recipients. It will not be tried again."
                .to_owned()
        }
        Action::Delayed { until } => format!(
            "Your message has not reached all of its recipients yet. It is being tried until {}; you need not send it again.",
            date(until)
        ),
        Action::Relayed => {
            "Your message was handed over to a server that does not report what becomes of it."
                .to_owned()
        }
        Action::Delivered => "Your message was put into the mailbox.".to_owned(),
    }
}

impl Told<'_> {
    fn words(&self) -> String {
        let words = clean(self.reply);
        if words.is_empty() { "no reason was given".to_owned() } else { words }
    }

    fn fields(&self, now: u64) -> String {
        let group = Group::of(self.action);
        let mut fields = format!(
            "Final-Recipient: {}\r\n\
             Action: {}\r\n\
             Status: {}\r\n\
             Diagnostic-Code: {}\r\n",
            self.recipient(),
            group.word(),
            self.status(),
            self.diagnostic(),
        );
        if let Action::Delayed { until } = self.action {
            let _ = write!(fields, "Will-Retry-Until: {}\r\n", date(until));
        // What a server said of another recipient is what it said at the last attempt, which was just now.
        } else if reply_code(self.last_words()).is_some() {
            let _ = write!(fields, "Last-Attempt-Date: {}\r\n", date(now));
        }
        fields
    }

    /// A type and an address. A domain beyond ASCII has a form in ASCII, which every program reads; a mailbox has none.
    fn recipient(&self) -> String {
        let address = clean(&address::to_ascii(self.address));
        let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
        format!("{kind}; {address}")
    }

    /// A type and the words of the server or, if no server said anything, of Sundown; in ASCII.
    fn diagnostic(&self) -> String {
        let said = clean(self.last_words());
        let (speaker, words) = match reply_code(&said) {
            Some(_) => ("smtp", said),
            None => ("x-sundown", self.words()),
        };
        format!("{speaker}; {}", ascii(&words))
    }

    /// What the transport said last, also if the message was given up because of its age.
    fn last_words(&self) -> &str {
        last_answer(self.reply).unwrap_or(self.reply)
    }

    /// The enhanced status code: the one that the transport said, if it fits.
    fn status(&self) -> String {
        let mut words = self.reply.split([' ', '-']).take(3);
        let mut said =
            |class: char| words.find(|word| is_enhanced(word) && word.starts_with(class));
        match self.action {
            Action::Failed => self.status_of_failure(),
            Action::Delayed { .. } => match (said('4'), reply_code(self.reply)) {
                (Some(code), _) => code.to_owned(),
                (None, Some(_)) => "4.0.0".to_owned(),
                // No server said anything.
                (None, None) => "4.4.0".to_owned(),
            },
            Action::Relayed | Action::Delivered => said('2').unwrap_or("2.0.0").to_owned(),
        }
    }

    /// The enhanced status code. If the transport's latest reply is a temporary failure, the time to try ran out. The reply of a
    /// message that was given up for another reason begins with the code of that reason.
    fn status_of_failure(&self) -> String {
        let first = self.reply.split(' ').next().filter(|word| is_failure(word));
        if let Some(code) = first {
            return code.to_owned();
        }
        let enhanced = self.reply.split([' ', '-']).take(3).find(|word| is_failure(word));
        match (enhanced, reply_code(self.reply)) {
            (Some(code), _) if code.starts_with('5') => code.to_owned(),
            (Some(_), _) | (None, Some(400..=499)) => "4.4.7".to_owned(),
            _ => "5.0.0".to_owned(),
        }
    }
}

/// The code of a reply: `550` of `550 5.1.1 no such user`.
fn reply_code(reply: &str) -> Option<u16> {
    let code = reply.split([' ', '-']).next()?;
    let number = code.parse().ok()?;
    (code.len() == 3 && (200..600).contains(&number)).then_some(number)
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

/// What a list shows of a notification: subject, sender and recipients.
pub fn shown(notice: &[u8]) -> (String, String, String) {
    let head = headers::Head::of(notice);
    (head.subject(), head.from(), head.to())
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;

    const HEAD: &[u8] =
        b"Subject: x\nBcc: secret@example.org,\n more@example.org\nTo: bob\n\nits text";

    fn notice<'a>(told: &'a [Told<'a>], original: Original) -> String {
        let notice = Notice {
            record: 0xBEEF,
            host: "Vm.Lan",
            to: "anna@example.org",
            subject: "Hällo",
            submitted: 0,
            now: 86_400_000,
            told,
            original,
        };
        let composed = notice.compose();
        assert_is_labelled(&composed);
        String::from_utf8_lossy(&composed).into_owned()
    }

    fn failed<'a>(address: &'a str, reply: &'a str) -> Told<'a> {
        Told { address, reply, action: Action::Failed }
    }

    fn composed(reply: &str) -> String {
        notice(&[failed("bob@example.net", reply)], Original::Head(HEAD.to_vec()))
    }

    fn returned(original: Original) -> String {
        notice(&[failed("bob@example.net", "550 no")], original)
    }

    /// No part has bytes that its encoding excludes, and the multipart names what is within (RFC 2045, 2.7 and 6.4).
    fn assert_is_labelled(notice: &[u8]) {
        let boundary = format!("--=_{:032x}", 0xBEEF);
        let text: String = notice.iter().map(|b| char::from(*b)).collect();
        let label = |entity: &str| {
            let head = entity.split("\r\n\r\n").next().expect("a head");
            let label = head.split("Content-Transfer-Encoding: ").nth(1).expect("a label");
            label.split("\r\n").next().expect("a line").to_owned()
        };
        let (head, parts) = text.split_once(&boundary).expect("parts");
        let parts: Vec<_> = parts.split(&boundary).filter(|part| !part.starts_with("--")).collect();
        let labels: Vec<_> = parts.iter().map(|part| label(part)).collect();
        for (part, label) in parts.iter().zip(&labels) {
            let long = part.split("\r\n").any(|line| line.len() > 998);
            let has_lone = part.replace("\r\n", "").contains(['\r', '\n']);
            assert!(!has_lone, "{part}");
            match label.as_str() {
                "7bit" | "quoted-printable" => assert!(part.is_ascii() && !long, "{part}"),
                "8bit" => assert!(!part.is_ascii() && !long && !part.contains('\0'), "{part}"),
                "binary" => assert!(long || part.contains('\0'), "{part}"),
                other => panic!("{other}"),
            }
        }
        let widest = ["binary", "8bit"].into_iter().find(|wide| labels.iter().any(|l| l == wide));
        assert_eq!(label(head), widest.unwrap_or("7bit"));
    }

    #[test]
    fn a_notice_is_a_report_of_three_parts() {
        let text = composed("550 5.1.1 no such user");
        let message = MessageParser::new().parse(text.as_bytes()).expect("it parses");
        let kind = message.content_type().expect("it has a type");
        assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
        assert_eq!(message.parts.len(), 4);
        for line in [
            "From: Mail Delivery System <MAILER-DAEMON@vm.lan>",
            "To: anna@example.org",
            "Auto-Submitted: auto-replied",
            "Content-Type: message/delivery-status",
            "Reporting-MTA: dns; vm.lan",
            "Final-Recipient: rfc822; bob@example.net",
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user",
            "Last-Attempt-Date: Fri, 2 Jan 1970 00:00:00 +0000",
            "Content-Type: text/rfc822-headers",
            "Subject: Hällo",
            "To: bob",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("secret") && !text.contains("more@") && !text.contains("its text"));
    }

    fn told(action: Action, reply: &str) -> String {
        let told = [Told { address: "bob@example.net", reply, action }];
        notice(&told, Original::Head(HEAD.to_vec()))
    }

    #[test]
    fn a_delay_says_until_when_it_is_tried() {
        for (reply, status) in [
            ("450 4.2.0 greylisted", "4.2.0"),
            ("450 greylisted", "4.0.0"),
            ("transport relay cannot be reached", "4.4.0"),
        ] {
            let text = told(Action::Delayed { until: 5 * 86_400_000 }, reply);
            for line in [
                "Subject: Delayed mail, which is still being tried".to_owned(),
                "Action: delayed".to_owned(),
                format!("Status: {status}"),
                "Will-Retry-Until: Tue, 6 Jan 1970 00:00:00 +0000".to_owned(),
            ] {
                assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
            }
            assert!(!text.contains("Last-Attempt-Date") && text.contains("need not send it again"));
        }
    }

    #[test]
    fn a_success_has_a_status_of_success() {
        for (action, word) in [(Action::Relayed, "relayed"), (Action::Delivered, "delivered")] {
            for (reply, status) in
                [("250 2.1.5 ok", "2.1.5"), ("250 ok", "2.0.0"), ("put into the Maildir", "2.0.0")]
            {
                let text = told(action, reply);
                for line in [
                    "Subject: Report about mail that was handed over".to_owned(),
                    format!("Action: {word}"),
                    format!("Status: {status}"),
                ] {
                    assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
                }
            }
        }
    }

    /// One update may say several things; the subject says what matters most, and each recipient stands where it belongs.
    #[test]
    fn one_notice_says_different_things() {
        let all = [
            Told { address: "late@x", reply: "450 no", action: Action::Delayed { until: 0 } },
            Told { address: "sent@x", reply: "250 ok", action: Action::Relayed },
            Told { address: "gone@x", reply: "550 no", action: Action::Failed },
        ];
        let text = notice(&all, Original::Head(HEAD.to_vec()));
        assert!(text.contains(&format!("Subject: {SUBJECT}\r\n")), "{text}");
        let places =
            ["did not reach", "gone@x:", "has not reached", "late@x:", "handed over", "sent@x:"]
                .map(|words| text.find(words).expect(words));
        assert!(places.is_sorted(), "{text}");
        assert_eq!(text.matches("\nSubmitted: ").count(), 1, "{text}");
        assert_eq!(text.matches("Final-Recipient: ").count(), 3, "{text}");
    }

    /// RFC 6533: a mailbox beyond ASCII has a type and a part of its own; a domain has a form in ASCII.
    #[test]
    fn addresses_beyond_ascii_have_their_type() {
        let cases = [
            (
                "bob@b\u{fc}cher.example",
                "rfc822; bob@xn--bcher-kva.example",
                "message/delivery-status",
            ),
            (
                "j\u{fc}rgen@b\u{fc}cher.example",
                "utf-8; j\u{fc}rgen@xn--bcher-kva.example",
                "message/global-delivery-status",
            ),
        ];
        for (address, field, kind) in cases {
            let failures = [failed(address, "550 5.1.1 nein, \u{fc}")];
            let text = notice(&failures, Original::Head(HEAD.to_vec()));
            for line in [
                format!("Final-Recipient: {field}"),
                format!("Content-Type: {kind}"),
                "Diagnostic-Code: smtp; 550 5.1.1 nein, ?".to_owned(),
            ] {
                assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
            }
        }
    }

    #[test]
    fn a_host_without_a_name_is_localhost() {
        let failures = [failed("bob@example.net", "550 no")];
        for (host, shown) in [("", "localhost"), ("a b", "localhost"), ("vm", "vm"), ("Vm.", "vm")]
        {
            let to = "anna@example.org";
            let original = Original::Head(HEAD.to_vec());
            let (record, subject, submitted, now) = (1, "", 0, 0);
            let told = &failures;
            let notice = Notice { record, host, to, subject, submitted, now, told, original };
            let text = String::from_utf8(notice.compose()).expect("text");
            assert!(text.contains(&format!("Reporting-MTA: dns; {shown}\r\n")), "{host}: {text}");
            assert!(text.contains(&format!("<MAILER-DAEMON@{shown}>\r\n")), "{host}: {text}");
        }
    }

    /// Of a head beyond ASCII no byte is lost, and none is claimed to be what it is not.
    #[test]
    fn a_head_is_labelled_for_what_it_is() {
        let long = format!("Subject: {}\n\nits text", "x".repeat(1_200));
        let cases: [(&[u8], &str, &str); 4] = [
            (b"Subject: x\n\nits text", "text/rfc822-headers", "Subject: x"),
            ("Subject: \u{fc}\n\nits text".as_bytes(), "message/global-headers", "Subject: \u{fc}"),
            (b"Subject: \xFC\n\nits text", "text/rfc822-headers", "Subject: =FC"),
            (long.as_bytes(), "text/rfc822-headers", "Subject: xxx"),
        ];
        for (message, kind, line) in cases {
            let text = returned(Original::Head(message.to_vec()));
            assert!(text.contains(&format!("Content-Type: {kind}\r\n")), "{text}");
            assert!(text.contains(&format!("\r\n{line}")), "{text}");
            assert!(!text.contains("its text"), "{text}");
        }
    }

    /// `RET=FULL` (RFC 3461).
    #[test]
    fn a_whole_message_is_returned_as_it_was_sent() {
        let long = format!("Subject: x\r\n\r\n{}", "y".repeat(1_200));
        let cases: [(&[u8], &str, &str); 6] = [
            (
                b"Subject: a\rX: b\r\r\n\nc\rd",
                "message/rfc822",
                "Subject: a X: b\r\n\r\nc\r\nd\r\n",
            ),
            (b"Bcc: no\nSubject: x\n\na\rb\n", "message/rfc822", "Subject: x\r\n\r\na\r\nb\r\n"),
            (b"Subject: x\n\n\xFC", "message/rfc822", "Subject: x\r\n\r\n\u{fffd}\r\n"),
            ("Subject: \u{fc}\n\nx".as_bytes(), "message/global", "Subject: \u{fc}\r\n\r\nx\r\n"),
            (b"Subject: \xFC\n\nx", "message/rfc822", "Subject: \u{fffd}\r\n\r\nx\r\n"),
            (long.as_bytes(), "message/rfc822", &long),
        ];
        for (message, kind, expected) in cases {
            let text = returned(Original::Whole(message.to_vec()));
            assert!(text.contains(&format!("Content-Type: {kind}\r\n")), "{text}");
            assert!(text.contains(&format!("\r\n\r\n{expected}")), "{text}");
            assert!(!text.contains("Bcc"), "{text}");
        }
    }

    #[test]
    fn a_message_with_a_nul_is_not_returned_and_the_notice_says_so() {
        let text = returned(Original::HeadOfBinary(b"Subject: a\n\nits text\0".to_vec()));
        assert!(text.contains("a NUL in it and is not returned"), "{text}");
        assert!(text.contains("text/rfc822-headers") && !text.contains("its text"), "{text}");
    }

    #[test]
    fn a_message_that_is_too_large_is_not_returned_and_the_notice_says_so() {
        let text = returned(Original::HeadOfLarge(HEAD.to_vec()));
        assert!(text.contains("more than 1 MiB and is not returned"), "{text}");
        assert!(text.contains("text/rfc822-headers") && !text.contains("its text"), "{text}");
    }

    /// Found by fuzzing.
    #[test]
    fn a_cr_in_the_message_ends_no_line_of_the_notice() {
        let original = b"Subject: x\rAction: delivered\r\n\rBcc: y\n\nits text";
        let text = returned(Original::Head(original.to_vec()));
        assert!(!text.lines().any(|line| line == "Action: delivered"), "{text}");
    }

    /// The words of the server stay the words of the server when the time ran out.
    #[test]
    fn a_message_that_was_too_old_says_how_long_it_was_tried() {
        let text = composed(
            "4.4.7 it was tried for 5 days; the last answer was: 450 4.2.0 greylisted, come back",
        );
        for line in [
            "    4.4.7 it was tried for 5 days; the last answer was: 450 4.2.0 greylisted, come back",
            "Status: 4.4.7",
            "Diagnostic-Code: smtp; 450 4.2.0 greylisted, come back",
            "Last-Attempt-Date: Fri, 2 Jan 1970 00:00:00 +0000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let text = composed("4.4.7 it was tried for 2 hours; the last answer was: no route");
        let said = "Diagnostic-Code: x-sundown; 4.4.7 it was tried for 2 hours; the last answer was: no route";
        assert!(text.lines().any(|l| l == said), "{text}");
        assert!(!text.contains("Last-Attempt-Date"), "{text}");
    }

    #[test]
    fn the_status_follows_the_last_word() {
        let cases = [
            ("", "5.0.0"),
            ("mailbox is gone", "5.0.0"),
            ("552 too big", "5.0.0"),
            ("554-5.7.1 refused", "5.7.1"),
            ("4.4.7 the time ran out", "4.4.7"),
            ("4.4.2 it is not known whether it was delivered: 250-", "4.4.2"),
            ("451 4.3.0 later", "4.4.7"),
            ("421 later", "4.4.7"),
            ("550 5.1.1.1 x", "5.0.0"),
        ];
        for (reply, status) in cases {
            let text = composed(reply);
            assert!(text.contains(&format!("Status: {status}\r\n")), "{reply}: {text}");
        }
    }

    #[test]
    fn a_reply_can_not_add_fields() {
        let text = composed("550 no\r\nAction: delivered\r\n\r\n");
        assert!(!text.lines().any(|l| l == "Action: delivered"), "{text}");
    }
}
