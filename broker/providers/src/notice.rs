//! Delivery status notifications, which tell a sender that a message failed for good (RFC 3464).

use std::fmt::Write as _;

use sundown_mail::{address, bcc};

use crate::headers::{self, Head, clean, date, host_of};

/// The contents of a notification.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The notification's own record.
    pub record: u128,
    /// The address of the notification: the sender of the failed message.
    pub to: &'a str,
    /// The subject of the failed message.
    pub subject: &'a str,
    /// When that message was submitted, in milliseconds since 1970.
    pub submitted: u64,
    /// When the message was given up, in milliseconds since 1970.
    pub now: u64,
    /// The recipients that did not get it.
    pub failures: &'a [Failure<'a>],
    /// The beginning of the message, at least its head.
    pub original: &'a [u8],
}

/// A recipient that did not get a message.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// The address.
    pub address: &'a str,
    /// The transport's latest reply.
    pub reply: &'a str,
}

/// The sender address of notifications.
pub fn sender(to: &str) -> String {
    format!("MAILER-DAEMON@{}", host_of(to))
}

/// The display name in front of that address.
const NAME: &str = "Mail Delivery System";

/// Whether a sender is that of notifications.
pub(crate) fn is_sender(from: &str) -> bool {
    from.starts_with(NAME) && from.contains("<MAILER-DAEMON@")
}

/// The subject of every notification.
pub const SUBJECT: &str = "Undelivered mail returned to sender";

impl Notice<'_> {
    /// The message, with CRLF line ends. It has no envelope: it is put into a folder and never sent, so that a bounce cannot
    /// bounce.
    pub fn compose(&self) -> Vec<u8> {
        // The record is random and new, so no earlier text can contain it.
        let boundary = format!("=_{:032x}", self.record);
        let mut text = self.head(&boundary);
        for part in [self.for_people(), self.for_programs(), self.original_head()] {
            let _ = write!(text, "--{boundary}\r\n{part}\r\n");
        }
        let _ = write!(text, "--{boundary}--\r\n");
        text.into_bytes()
    }

    fn head(&self, boundary: &str) -> String {
        let host = host_of(self.to);
        format!(
            "Return-Path: <>\r\n\
             Date: {}\r\n\
             From: {NAME} <{}>\r\n\
             To: {}\r\n\
             Subject: {SUBJECT}\r\n\
             Message-ID: <{:032x}@{host}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\
             \r\n",
            date(self.now),
            sender(self.to),
            clean(&address::to_ascii(self.to)),
            self.record,
        )
    }

    fn for_people(&self) -> String {
        let mut text = format!(
            "Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\
             \r\n\
             Your message did not reach everybody it was for. It will not be tried again.\r\n\
             \r\n\
             Subject: {}\r\n\
             Submitted: {}\r\n\
             \r\n",
            clean(self.subject),
            date(self.submitted)
        );
        for failure in self.failures {
            let _ = write!(text, "{}:\r\n    {}\r\n", clean(failure.address), failure.words());
        }
        text
    }

    fn for_programs(&self) -> String {
        let mut text = format!(
            "Content-Type: message/delivery-status\r\n\
             \r\n\
             Reporting-MTA: dns; {}\r\n\
             Arrival-Date: {}\r\n",
            host_of(self.to),
            date(self.submitted)
        );
        for failure in self.failures {
            let _ = write!(text, "\r\n{}", failure.fields());
        }
        text
    }

    fn original_head(&self) -> String {
        let head = Head::of(self.original).bytes();
        let shown = bcc::without(head);
        // Some readers take a lone CR for the end of a line, so that what follows could pass for a field of the notice.
        let lines = String::from_utf8_lossy(&shown).replace("\r\n", "\n").replace('\r', " ");
        let lines = lines.replace('\n', "\r\n");
        format!(
            "Content-Type: text/rfc822-headers; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\
             \r\n{lines}"
        )
    }
}

impl Failure<'_> {
    fn words(&self) -> String {
        let words = clean(self.reply);
        if words.is_empty() { "no reason was given".to_owned() } else { words }
    }

    fn fields(&self) -> String {
        let address = clean(self.address);
        let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
        let words = ascii(&self.words());
        let from_smtp = reply_code(&words).is_some();
        let speaker = if from_smtp { "smtp" } else { "x-sundown" };
        format!(
            "Final-Recipient: {kind}; {address}\r\n\
             Action: failed\r\n\
             Status: {}\r\n\
             Diagnostic-Code: {speaker}; {words}\r\n",
            self.status()
        )
    }

    /// The enhanced status code. If the transport's latest reply is a temporary failure, the time to try ran out. The reply of a
    /// message that was given up for another reason begins with the code of that reason.
    fn status(&self) -> String {
        let first = self.reply.split(' ').next().filter(|word| is_enhanced(word));
        if let Some(code) = first {
            return code.to_owned();
        }
        let enhanced = self.reply.split([' ', '-']).take(3).find(|word| is_enhanced(word));
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

/// Whether a word is an enhanced status code of a failure (RFC 3463).
fn is_enhanced(word: &str) -> bool {
    let parts: Vec<_> = word.split('.').collect();
    let digits =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    parts.len() == 3 && matches!(parts[0], "4" | "5") && parts.iter().all(digits)
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

    fn composed(reply: &str) -> String {
        let failures = [Failure { address: "bob@example.net", reply }];
        let notice = Notice {
            record: 0xBEEF,
            to: "anna@example.org",
            subject: "Hällo",
            submitted: 0,
            now: 86_400_000,
            failures: &failures,
            original:
                b"Subject: x\nBcc: secret@example.org,\n more@example.org\nTo: bob\n\nits text",
        };
        String::from_utf8(notice.compose()).expect("text")
    }

    #[test]
    fn a_notice_is_a_report_of_three_parts() {
        let text = composed("550 5.1.1 no such user");
        let message = MessageParser::new().parse(text.as_bytes()).expect("it parses");
        let kind = message.content_type().expect("it has a type");
        assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
        assert_eq!(message.parts.len(), 4);
        for line in [
            "From: Mail Delivery System <MAILER-DAEMON@example.org>",
            "To: anna@example.org",
            "Auto-Submitted: auto-replied",
            "Final-Recipient: rfc822; bob@example.net",
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user",
            "Subject: Hällo",
            "To: bob",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("secret") && !text.contains("more@") && !text.contains("its text"));
        assert!(text.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
    }

    /// Found by fuzzing.
    #[test]
    fn a_cr_in_the_message_ends_no_line_of_the_notice() {
        let failures = [Failure { address: "bob@example.net", reply: "550 no" }];
        let original = b"Subject: x\rAction: delivered\r\n\rBcc: y\n\nits text";
        let (to, subject) = ("anna@example.org", "x");
        let notice =
            Notice { record: 1, to, subject, submitted: 0, now: 0, failures: &failures, original };
        let text = String::from_utf8(notice.compose()).expect("text");
        assert!(text.split("\r\n").all(|line| !line.contains(['\r', '\n'])), "{text}");
    }

    #[test]
    fn the_status_follows_the_last_word() {
        let cases = [
            ("", "5.0.0"),
            ("mailbox is gone", "5.0.0"),
            ("552 too big", "5.0.0"),
            ("554-5.7.1 refused", "5.7.1"),
            ("4.4.7 the time ran out", "4.4.7"),
            ("4.4.2 nobody knows whether it was delivered: 250-", "4.4.2"),
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
