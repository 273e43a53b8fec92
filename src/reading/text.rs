//! A message as people read it: its fields, its text, and what is attached.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Value, json};
use sundown_client::EntryId;

use super::decode::{self, Encoding};
use super::html;
use super::parts::{self, Head, Part, Parts};
use crate::{safe, terminal};

/// How much text is shown, in bytes.
const TEXT: usize = 1 << 20;

/// How much of a message is decoded for it.
const SOURCE: usize = 4 << 20;

/// How many sentences say what is left out of the text.
const REMARKS: usize = 10;

/// How much of an attached message is looked at for its subject.
const HEAD: usize = 256 << 10;

/// A message as it is shown. Its texts are what the message says, whatever a terminal makes of them; [`Shown::for_people`] is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `Name <address>`, decoded, as the other fields are.
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cc: String,
    /// The field as it is written.
    pub(crate) date: String,
    /// The same in milliseconds since 1970; nothing if it cannot be read.
    pub(crate) sent: Option<u64>,
    pub(crate) subject: String,
    /// Its lines end with `\n`.
    pub(crate) text: String,
    pub(crate) attachments: Vec<Attachment>,
    /// What of the message is not in here, and what could not be read as it says, in sentences.
    pub(crate) left_out: Vec<String>,
}

/// A part that is not shown as text, or that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Which part of the message it is, from 1 on.
    pub(crate) part: usize,
    /// The name as the message has it; empty if it has none.
    pub(crate) name: String,
    /// `application/pdf`
    pub(crate) media_type: String,
    /// The size of the content, in bytes.
    pub(crate) size: u64,
    /// That of a message that is attached.
    pub(crate) subject: Option<String>,
    encoding: Encoding,
    body: Range<usize>,
}

impl Attachment {
    /// The content, from the message that it was found in. What cannot be decoded is there as it is.
    pub(crate) fn content<'a>(&self, message: &'a [u8]) -> Cow<'a, [u8]> {
        self.encoding.decoded(message.get(self.body.clone()).unwrap_or_default()).0
    }

    fn value(&self) -> Value {
        json!({
            "part": self.part,
            "name": self.name,
            "type": self.media_type,
            "size": self.size,
            "subject": self.subject,
        })
    }
}

impl Shown {
    /// What a message shows. Any bytes are one; time and memory that it takes are bounded by its length.
    pub(crate) fn of(message: &[u8]) -> Self {
        let parts = Parts::of(message);
        let mut reader = Reader::new(message, &parts);
        reader.part(0);
        reader.finish()
    }

    /// The document of `--json`.
    pub(crate) fn value(&self, entry: EntryId, unread: bool) -> Value {
        json!({
            "entry": entry.to_string(),
            "from": self.from,
            "to": self.to,
            "cc": self.cc,
            "date": self.sent,
            "subject": self.subject,
            "text": self.text,
            "attachments": self.attachments.iter().map(Attachment::value).collect::<Vec<_>>(),
            "left_out": self.left_out,
            "unread": unread,
        })
    }

    /// The message for people: lines that are longer than a terminal is wide are broken between words.
    pub(crate) fn for_people(&self, columns: Option<usize>) -> String {
        let fields = [
            ("From", &self.from),
            ("To", &self.to),
            ("Cc", &self.cc),
            ("Date", &self.date),
            ("Subject", &self.subject),
        ];
        let mut text = String::new();
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            let value = safe::line(value);
            let name_of = terminal::bold(&format!("{name}:"));
            let room = columns.map(|columns| columns.saturating_sub(name.len() + 2).max(1));
            let lines =
                room.map_or_else(|| vec![value.clone()], |room| terminal::wrapped(&value, room));
            text += &format!("{name_of} {}\n", lines.join("\n    "));
        }
        text.push('\n');
        let shown = safe::text(&self.text);
        for line in shown.trim_end().lines().skip_while(|line| line.trim().is_empty()) {
            match columns.filter(|columns| terminal::width(line) > *columns) {
                Some(columns) => text += &terminal::wrapped(line, columns).join("\n"),
                None => text += line,
            }
            text.push('\n');
        }
        text += &attached(&self.attachments);
        for what in &self.left_out {
            text += &format!("\n{}\n", terminal::dim(&format!("[{}]", safe::line(what))));
        }
        text
    }
}

/// The attachments, a line for each.
fn attached(attachments: &[Attachment]) -> String {
    if attachments.is_empty() {
        return String::new();
    }
    let row = |one: &Attachment| {
        let name = match (&one.subject, one.name.as_str()) {
            (Some(subject), "") if !subject.is_empty() => format!("\"{subject}\""),
            (_, "") => format!("part {}", one.part),
            (_, name) => name.to_owned(),
        };
        vec![name, one.media_type.clone(), size(one.size)]
    };
    let rows: Vec<_> = attachments.iter().map(row).collect();
    format!("\n{}", crate::output::table(&["attachment", "type", "size"], &rows))
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// Reads the parts of a message.
struct Reader<'a> {
    message: &'a [u8],
    parts: &'a [Part],
    behind: usize,
    text: String,
    attachments: Vec<Attachment>,
    left_out: Vec<String>,
    /// How much may still be decoded.
    source: usize,
}

/// Which form of the same text a part of an alternative has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Other,
    Html,
    Plain,
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8], parts: &'a Parts) -> Self {
        Self {
            message,
            parts: &parts.all,
            behind: parts.behind,
            text: String::new(),
            attachments: Vec::new(),
            left_out: Vec::new(),
            source: SOURCE,
        }
    }

    fn finish(mut self) -> Shown {
        if self.behind > 0 {
            self.left_out.push(format!(
                "the message has more than {} parts; {} behind them are not looked at",
                parts::PARTS,
                size(self.behind as u64)
            ));
        }
        let head = &self.parts[0].head;
        if head.is_cut {
            self.left_out.push("a field of the head is too long, and is shown in part".into());
        }
        let head = head.clone();
        Shown {
            from: head.from,
            to: head.to,
            cc: head.cc,
            date: head.date,
            sent: head.sent,
            subject: head.subject,
            text: self.text,
            attachments: self.attachments,
            left_out: self.left_out,
        }
    }

    fn bytes(&self, part: &Part) -> &'a [u8] {
        &self.message[part.body.clone()]
    }

    /// Takes a part, with those in it. Multiparts stand in each other no deeper than they are looked into.
    fn part(&mut self, place: usize) {
        let part = &self.parts[place];
        let head = &part.head;
        if is_encrypted(head) {
            self.tell("the message is encrypted; what it says is in an attachment");
        }
        if head.is("multipart/alternative") && !part.below.is_empty() {
            self.alternative(&part.below);
        } else if head.is_multipart() && !part.too_deep {
            match &part.below[..] {
                // None of its delimiters is there: what there is may be read all the same.
                [] => {
                    let begin = self.begin(part);
                    self.show(&decode::text(begin, None).0);
                }
                below => below.iter().for_each(|place| self.part(*place)),
            }
        } else if head.is_attachment && place > 0 {
            self.attach(place);
        } else if is_text(head) || is_report(head) {
            self.text_of(part);
            if !head.name.is_empty() {
                self.attach(place);
            }
        } else {
            self.attach(place);
        }
    }

    /// One of several forms of the same, the most readable one. Of the others only those that are no text are attachments.
    fn alternative(&mut self, below: &[usize]) {
        let best = below.iter().map(|place| self.best_in(*place)).max();
        let chosen = below.iter().rposition(|place| Some(self.best_in(*place)) == best);
        for (number, place) in below.iter().enumerate() {
            if Some(number) == chosen {
                self.part(*place);
            } else {
                self.attach_others(*place);
            }
        }
    }

    /// The most readable form in a part. A plain text in which nothing stands is none.
    fn best_in(&self, place: usize) -> Form {
        let part = &self.parts[place];
        if part.below.is_empty() {
            let is_empty = self.bytes(part).iter().all(u8::is_ascii_whitespace);
            return if is_empty { Form::Other } else { Self::form(part) };
        }
        part.below.iter().map(|place| self.best_in(*place)).max().unwrap_or(Form::Other)
    }

    fn form(part: &Part) -> Form {
        match part.head.media_type.as_str() {
            _ if part.head.is_attachment => Form::Other,
            "text/plain" => Form::Plain,
            "text/html" => Form::Html,
            _ => Form::Other,
        }
    }

    /// Attaches what is no text in a part that is not shown.
    fn attach_others(&mut self, place: usize) {
        let part = &self.parts[place];
        part.below.iter().for_each(|place| self.attach_others(*place));
        if part.below.is_empty() && Self::form(part) == Form::Other {
            self.attach(place);
        }
    }

    /// As much of a part as may still be decoded.
    fn begin(&mut self, part: &Part) -> &'a [u8] {
        let bytes = self.bytes(part);
        let begin = decode::beginning(bytes, self.source);
        self.source -= begin.len();
        if begin.len() < bytes.len() {
            self.cut();
        }
        begin
    }

    fn text_of(&mut self, part: &Part) {
        let head = &part.head;
        let begin = self.begin(part);
        let (content, is_so) = head.encoding.decoded(begin);
        if !is_so {
            self.tell("a text is not encoded as it says; some of it may be shown as it is");
        }
        let named = head.is("text/html").then(|| html::charset(&content)).flatten();
        let charset = head.charset.as_deref().or(named);
        let (text, is_known) = decode::text(&content, charset);
        if !is_known {
            let charset: String = charset.unwrap_or_default().chars().take(40).collect();
            self.tell(&format!(
                "the character set {charset:?} is not known; some letters may be wrong"
            ));
        }
        if head.is("text/html") {
            let (text, is_all) = html::text(&text, TEXT.saturating_sub(self.text.len()));
            self.show(&text);
            if !is_all {
                self.cut();
            }
        } else {
            self.show(&text);
        }
    }

    /// Adds a text, behind an empty line if there is one already. Its lines end as those of this system.
    fn show(&mut self, text: &str) {
        let text = &*text.replace("\r\n", "\n");
        if text.trim().is_empty() {
            return;
        }
        if !self.text.is_empty() {
            let ends = if self.text.ends_with('\n') { "\n" } else { "\n\n" };
            self.text += ends;
        }
        let room = TEXT.saturating_sub(self.text.len());
        let shown = decode::within(text, room);
        self.text += shown;
        if shown.len() < text.len() {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.tell(
            "the text is longer, and is shown in part; the message as it is (--raw) has all of it",
        );
    }

    /// Says what is left out, once, and not more than a reader looks at.
    fn tell(&mut self, what: &str) {
        if self.left_out.len() < REMARKS && !self.left_out.iter().any(|told| told == what) {
            self.left_out.push(what.to_owned());
        }
    }

    fn attach(&mut self, place: usize) {
        let part = &self.parts[place];
        let bytes = self.bytes(part);
        if part.too_deep {
            self.tell("parts that stand too deep in others are attachments");
        }
        let head = &part.head;
        let subject = head.is_message().then(|| {
            let begin = &bytes[..bytes.len().min(HEAD)];
            Head::of(&head.encoding.decoded(begin).0, "text/plain").subject
        });
        self.attachments.push(Attachment {
            part: place + 1,
            name: head.name.clone(),
            media_type: head.media_type.clone(),
            size: head.encoding.size(bytes),
            subject,
            encoding: head.encoding,
            body: part.body.clone(),
        });
    }
}

/// Whether a part is for readers: a text, also a patch or a list, and no data of a calendar or an address book.
fn is_text(head: &Head) -> bool {
    let data = ["text/calendar", "text/vcard", "text/x-vcard", "text/directory"];
    head.media_type.starts_with("text/") && !data.contains(&head.media_type.as_str())
}

/// Whether a part is encrypted. Its content is an attachment.
fn is_encrypted(head: &Head) -> bool {
    head.is("multipart/encrypted") || head.is("application/pkcs7-mime")
}

/// Whether a part says what became of a message, in lines that people can read.
fn is_report(head: &Head) -> bool {
    let reports = [
        "message/delivery-status",
        "message/global-delivery-status",
        "message/disposition-notification",
        "message/feedback-report",
        "text/rfc822-headers",
        "message/global-headers",
    ];
    reports.contains(&head.media_type.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn of(message: &str) -> Shown {
        Shown::of(message.replace('\n', "\r\n").as_bytes())
    }

    fn listed(shown: &Shown) -> Vec<(usize, &str, &str, u64)> {
        let one = |one: &'_ Attachment| (one.part, one.size);
        let texts = shown.attachments.iter().map(|a| (a.name.as_str(), a.media_type.as_str()));
        let numbers = shown.attachments.iter().map(one);
        numbers.zip(texts).map(|((part, size), (name, kind))| (part, name, kind, size)).collect()
    }

    #[test]
    fn a_message_shows_its_fields_and_its_text() {
        let shown = of("From: =?utf-8?q?Ann=C3=A9?= <anna@x.org>\nTo: Bo <bo@x.org>,\n c@x.org\n\
                        Cc: Team: d@x.org, e@x.org;\nDate: Mon, 30 Nov 2026 03:43:30 +0100\n\
                        Subject: =?iso-8859-1?q?caf=E9?= and\n more\n\nhello\nworld\n");
        assert_eq!(shown.from, "Anné <anna@x.org>");
        assert_eq!(shown.to, "Bo <bo@x.org>, c@x.org");
        assert_eq!(shown.cc, "d@x.org, e@x.org");
        assert_eq!(shown.date, "Mon, 30 Nov 2026 03:43:30 +0100");
        assert_eq!(shown.sent, Some(1_796_006_610_000));
        assert_eq!(shown.subject, "café and more");
        assert_eq!(shown.text, "hello\nworld\n");
        assert!(shown.attachments.is_empty() && shown.left_out.is_empty(), "{shown:?}");
    }

    #[test]
    fn heads_that_are_no_ascii_are_readable() {
        for (raw, subject) in [
            (&b"Subject: caf\xc3\xa9\n\n"[..], "café"),
            (b"Subject: caf\xe9\n\n", "café"),
            (b"Subject: =?x-unheard-of?q?caf=E9?= =?X-UNHEARD-OF*en?b?Y2Fm6Q==?=\n\n", "cafécafé"),
            (b"Subject: J\xfcrgen =?iso-8859-1?Q?J\xfcrgen?=\n\n", "Jürgen Jürgen"),
            (b"Subject: =?shift_jis?b?g26DjYFb?=\n\n", "ハロー"),
            (b"Subject: =?gb2312?B?xOO6ww==?=\n\n", "你好"),
            (b"Subject: =?utf-8?q?a?=?=?= =?broken\n\n", "a ?=?= =?broken"),
            (b"Subject:\n\n", ""),
        ] {
            assert_eq!(Shown::of(raw).subject, subject, "{raw:?}");
        }
    }

    const ALTERNATIVE: &str = "--i\nContent-Type: text/plain\n\nplain\n--i\n\
                               Content-Type: text/html\n\n<p>html</p>\n--i--\n";

    #[test]
    fn plain_text_is_preferred_and_html_read_where_there_is_none() {
        let head = "Content-Type: multipart/alternative; boundary=i\n\n";
        assert_eq!(of(&format!("{head}{ALTERNATIVE}")).text, "plain");
        let html = ALTERNATIVE.replace("text/plain", "text/calendar");
        let shown = of(&format!("{head}{html}"));
        assert_eq!(shown.text, "html\n");
        assert_eq!(listed(&shown), [(2, "", "text/calendar", 5)]);
        let empty = ALTERNATIVE.replace("\nplain", "\n \n\n");
        assert_eq!(of(&format!("{head}{empty}")).text, "html\n");
        assert_eq!(of("Content-Type: text/html\n\n<p>a<p>b").text, "a\n\nb\n");
        let own = b"Content-Type: text/html\n\n<meta charset='Shift_JIS'>\x83n\x83\x8d\x81[";
        assert_eq!(Shown::of(own).text, "ハロー\n");
        // Pictures of the page are attached, also where the page is not shown.
        let related = "--i\nContent-Type: text/plain\n\nplain\n--i\nContent-Type: multipart/related; boundary=r\n\n\
                       --r\nContent-Type: text/html\n\n<img>\n--r\nContent-Type: image/png; name=a.png\n\
                       Content-Transfer-Encoding: base64\n\naGVsbG8=\n--r--\n--i--\n";
        let shown = of(&format!("{head}{related}"));
        assert_eq!(shown.text, "plain");
        assert_eq!(listed(&shown), [(5, "a.png", "image/png", 5)]);
    }

    #[test]
    fn parts_are_texts_or_attachments() {
        let message = "Content-Type: multipart/mixed; boundary=\"b b\"\n\npreamble\n--b b\n\none\n--b b  \n\
            Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\ndHdvw6k=\n--b b\n\
            Content-Disposition: attachment; filename*=utf-8''caf%C3%A9.txt\n\nthree\n--b b\n\
            Content-Type: application/pdf; name=\"=?utf-8?q?=C3=A9.pdf?=\"\nContent-Transfer-Encoding: quoted-printable\n\nf=6Fur=\n\n--b b\n\
            Content-Type: message/rfc822\n\nSubject: =?utf-8?q?inn=C3=A9r?=\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nno\n--x--\n--b b--\nepilogue\n";
        let shown = of(message);
        assert_eq!(shown.text, "one\n\ntwoé");
        assert_eq!(
            listed(&shown),
            [
                (4, "café.txt", "text/plain", 5),
                (5, "é.pdf", "application/pdf", 4),
                (6, "", "message/rfc822", 94),
            ]
        );
        assert_eq!(shown.attachments[2].subject.as_deref(), Some("innér"));
        let bytes = message.replace('\n', "\r\n");
        assert_eq!(&*shown.attachments[1].content(bytes.as_bytes()), b"four");
        let value = shown.value(EntryId { store: 1, record: 2 }, true);
        let wanted = json!({ "part": 4, "name": "café.txt", "type": "text/plain", "size": 5, "subject": null });
        assert_eq!((&value["attachments"][0], &value["unread"]), (&wanted, &json!(true)));
        let people = shown.for_people(Some(80));
        assert!(people.contains("\"innér\"     message/rfc822   94 B\n"), "{people}");
    }

    #[test]
    fn patches_are_texts_and_what_is_encrypted_is_said() {
        let patch = of("Content-Type: text/x-patch; name=a.patch\n\n-a\n+b\n");
        assert_eq!(patch.text, "-a\n+b\n");
        assert_eq!(listed(&patch), [(1, "a.patch", "text/x-patch", 8)]);
        let card = of("Content-Type: text/vcard\n\nBEGIN:VCARD\n");
        assert_eq!((card.text.as_str(), card.attachments.len()), ("", 1));
        let secret = of("Content-Type: multipart/encrypted; boundary=b\n\n--b\n\
            Content-Type: application/octet-stream\n\n?\n--b--\n");
        assert_eq!((secret.text.as_str(), secret.attachments.len()), ("", 1));
        assert!(secret.left_out[0].contains("encrypted"), "{secret:?}");
    }

    #[test]
    fn a_notification_says_what_became_of_a_message() {
        let message = "Content-Type: multipart/report; report-type=delivery-status; boundary=i\n\n--i\n\n\
            It came back.\n--i\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.org\n\n\
            Final-Recipient: rfc822; bo@x.org\nStatus: 5.1.1\n--i\nContent-Type: text/rfc822-headers\n\nSubject: gone\n--i--\n";
        let shown = of(message);
        let wanted = "It came back.\n\nReporting-MTA: dns; x.org\n\nFinal-Recipient: rfc822; bo@x.org\nStatus: 5.1.1\n\nSubject: gone";
        assert_eq!(shown.text, wanted);
        let whole = of(&message.replace("text/rfc822-headers", "message/rfc822"));
        assert_eq!(whole.attachments[0].subject.as_deref(), Some("gone"));
    }

    #[test]
    fn broken_messages_lose_nothing() {
        for (message, text) in [
            ("", ""),
            ("\n", ""),
            ("no head at all\nSubject: x\n", "no head at all\nSubject: x\n"),
            ("Subject: x", ""),
            (
                "Content-Type: multipart/mixed; boundary=none\n\ntext without parts\n",
                "text without parts\n",
            ),
            ("Content-Type: multipart/mixed\n\ntext\n", "text\n"),
            (
                "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\n\ntwo, cut off",
                "one\n\ntwo, cut off",
            ),
            // The end of the inner one is missing.
            (
                "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--a\n\ntwo\n--a--\n",
                "one\n\ntwo",
            ),
            (
                "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n*no* base64\n",
                "*no* base64\n",
            ),
            ("Content-Type: ;;;=\nContent-Transfer-Encoding: x\n\ntext\n", "text\n"),
            // A delimiter that looks like a field.
            (
                "Content-Type: multipart/mixed; boundary=\"a:b\"\n\n--a:b\nX: 1\n--a:b\n\none\n--a:b--\n",
                "one",
            ),
        ] {
            assert_eq!(of(message).text, text, "{message}");
        }
        let unknown = of("Content-Type: text/plain; charset=x-no\n\ncaf\u{e9}\n");
        assert_eq!(unknown.text, "café\n");
        assert!(unknown.left_out[0].contains("\"x-no\" is not known"), "{unknown:?}");
    }

    #[test]
    fn what_reaches_a_terminal_is_harmless() {
        let message = "From: \"\u{202e}bo\" <bo@x.org>\nSubject: =?utf-8?q?=1B[2J=0Anew=C2=9B?=\n\
            Content-Type: multipart/mixed; boundary=i\n\n--i\n\nhe\u{1b}]0;x\u{7}llo\rover\n--i\n\
            Content-Type: a/b; name=\"\u{2066}x\u{1b}\"\n\n--i--\n";
        let people = of(message).for_people(Some(40));
        assert!(
            !people.contains(|c: char| c != '\n' && sundown_client::is_unseen(c)),
            "{people:?}"
        );
        assert!(
            people.contains("Subject: �[2J new�\n") && people.contains("he�]0;x�llo�over\n"),
            "{people}"
        );
    }

    #[test]
    fn long_lines_are_broken_between_words_on_a_terminal() {
        let message = format!("To: {}\n\n{}\n", "bo@x.org, ".repeat(5), "word ".repeat(12));
        let people = of(&message).for_people(Some(30));
        assert!(people.lines().all(|line| terminal::width(line) <= 34), "{people}");
        assert_eq!(people.matches("word").count(), 12);
        assert!(of(&message).for_people(None).contains(&"word ".repeat(11)));
    }

    /// What is left out is said, and nothing takes more time than its length is worth.
    #[test]
    fn hostile_messages_are_bounded() {
        let parts = |count: usize, boundary: &str| format!("--{boundary}\n\nx\n").repeat(count);
        let nested = |count: usize| -> String {
            (0..count)
                .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n"))
                .collect()
        };
        let unclosed = |count: usize| -> String {
            let part = |n| format!("--a\nContent-Type: multipart/mixed; boundary=none{n}\n\nx\n");
            "Content-Type: multipart/mixed; boundary=a\n\n".to_owned()
                + &(0..count).map(part).collect::<String>()
        };
        let cases: [(&str, String, &str); 9] = [
            (
                "head",
                format!("Subject: {}\n\ntext\n", "x ".repeat(10 << 20)),
                "a field of the head is too long",
            ),
            ("fields", format!("{}Subject: x\n\ntext\n", "a:\n".repeat(3 << 20)), ""),
            (
                "parts",
                format!("Content-Type: multipart/mixed; boundary=a\n\n{}", parts(50_000, "a")),
                "more than 1000 parts",
            ),
            ("nested", nested(50_000), "stand too deep"),
            ("messages", "Content-Type: message/rfc822\n\n".repeat(500_000), ""),
            ("unclosed", unclosed(50_000), "more than 1000 parts"),
            (
                "addresses",
                format!("To: {}\n\ntext\n", "=?a?q?<(\"a@b,".repeat(1 << 20)),
                "a field of the head is too long",
            ),
            (
                "text",
                format!(
                    "Content-Transfer-Encoding: quoted-printable\n\n{}",
                    "=41\n".repeat(5 << 20)
                ),
                "the text is longer",
            ),
            (
                "html",
                format!("Content-Type: text/html\n\n{}", "<a href=x>".repeat(2 << 20)),
                "the text is longer",
            ),
        ];
        for (name, message, said) in cases {
            let began = Instant::now();
            let shown = Shown::of(message.as_bytes());
            let people = shown.for_people(Some(80));
            assert!(began.elapsed() < Duration::from_secs(30), "{name}: {:?}", began.elapsed());
            assert!(
                shown.text.len() <= TEXT + 2 && shown.attachments.len() <= parts::PARTS,
                "{name}"
            );
            assert!(
                shown.left_out.iter().any(|out| out.contains(said)) || said.is_empty(),
                "{name}: {:?}",
                shown.left_out
            );
            assert!(people.contains(said), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message(pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "Content-Type: multipart/mixed; boundary=a\n", "Content-Type: multipart/alternative; boundary=b\r\n",
                "Content-Type: text/html; charset=utf-7\n", "Content-Type: message/rfc822\n", "Subject: =?utf-16?b?",
                "Content-Transfer-Encoding: base64\n", "Content-Transfer-Encoding: quoted-printable\n", "\n", "\r\n",
                "--a\n", "--a--\n", "--b\n", "--b--\r\n", "Content-Type: text/plain; charset=", "iso-2022-jp\n",
                "Content-Disposition: attachment; filename*0*=utf-8''%41; filename*1=b\n", "?=", "=?", "=", "From: ",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..8),
        ], 0..30)) {
            let message = pieces.concat();
            let shown = Shown::of(&message);
            for attachment in &shown.attachments {
                let decoded = attachment.content(&message);
                prop_assert!(decoded.len() <= message.len());
            }
            let people = shown.for_people(Some(20));
            prop_assert!(!people.contains(|c: char| c != '\n' && c.is_control()), "{people:?}");
        }
    }
}
