//! What of a message can be searched.

use std::borrow::Cow;
use std::ops::ControlFlow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::html::html_to_text;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Address, Message, MimeHeaders};

use super::mime::{Found, walk};

/// How many bytes of a message are looked at. What is behind them is not found.
pub const LOOKED_AT: usize = 2 << 20;

/// How many bytes of a message's text are kept.
const TEXT: usize = 512 << 10;

/// How many bytes of the other fields are kept, of each.
const FIELD: usize = 64 << 10;

/// What of a message can be searched. All of it is text as people read it: decoded, and in UTF-8.
///
/// It costs at most so much time and memory as the first [`LOOKED_AT`] bytes of the message take; its text has at most 512 KiB, each of
/// the other fields 64 KiB.
///
/// ```
/// use sundown_providers::search::Document;
///
/// let message = b"From: Alice <alice@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
///     Content-Type: text/html\r\n\r\n<p>Hello &amp; welcome</p>\r\n";
/// let document = Document::of(message);
/// assert_eq!(document.subject, "Grüße");
/// assert_eq!(document.from, "Alice alice@example.org");
/// assert_eq!(document.text.trim(), "Hello & welcome");
/// assert_eq!(document.date, None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The subject.
    pub subject: String,
    /// Names and addresses in From, Sender and Reply-To.
    pub from: String,
    /// Names and addresses in To, Cc and Bcc.
    pub to: String,
    /// The text of all parts that are text, and the subjects and addresses of messages in the message.
    pub text: String,
    /// The names of attachments.
    pub files: String,
    /// The message's date, in milliseconds since 1970; `None` if it has none that is one.
    pub date: Option<i64>,
}

impl Document {
    /// Reads a message, or its beginning.
    pub fn of(message: &[u8]) -> Self {
        let mut document = Self::default();
        let message = &message[..message.len().min(LOOKED_AT)];
        let _ = walk(message, |found| {
            match found {
                Found::Head(fields) => document.head(fields),
                Found::InnerHead(fields) => document.inner(fields),
                Found::Part(fields, body) => document.part(fields, body),
            }
            let full = document.text.len() >= TEXT;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        document
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        let fields = [&self.subject, &self.from, &self.to, &self.text, &self.files];
        fields.iter().map(|field| field.len()).sum()
    }

    fn head(&mut self, fields: &Message<'_>) {
        add(&mut self.subject, fields.subject().unwrap_or_default(), FIELD);
        for addresses in [fields.from(), fields.sender(), fields.reply_to()] {
            add_addresses(&mut self.from, addresses, FIELD);
        }
        let to = fields.all_to().chain(fields.all_cc()).chain(fields.all_bcc());
        for addresses in to {
            add_addresses(&mut self.to, Some(addresses), FIELD);
        }
        let date = fields.date().filter(|date| date.is_valid());
        self.date = date.map(|date| date.to_timestamp() * 1000);
    }

    fn inner(&mut self, fields: &Message<'_>) {
        add(&mut self.text, fields.subject().unwrap_or_default(), TEXT);
        for addresses in [fields.from(), fields.to(), fields.cc()] {
            add_addresses(&mut self.text, addresses, TEXT);
        }
    }

    fn part(&mut self, fields: Option<&Message<'_>>, body: &[u8]) {
        if let Some(name) = fields.and_then(MimeHeaders::attachment_name) {
            add(&mut self.files, name, FIELD);
        }
        let kind = fields.and_then(MimeHeaders::content_type);
        let is = |kind: Option<&mail_parser::ContentType<'_>>, name: &str| {
            kind.is_none_or(|kind| kind.ctype().eq_ignore_ascii_case(name))
        };
        // A multipart whose parts are missing is text, as programs without MIME show it.
        if !is(kind, "text") && !is(kind, "multipart") && !is_report(kind) {
            return;
        }
        let encoding = fields.and_then(MimeHeaders::content_transfer_encoding);
        let bytes = decoded(body, encoding.unwrap_or_default());
        let charset = kind.and_then(|kind| kind.attribute("charset"));
        let text = text_of(&bytes, charset);
        let subtype = kind.and_then(|kind| kind.subtype()).unwrap_or_default();
        if subtype.eq_ignore_ascii_case("html") {
            add(&mut self.text, &html_to_text(&spaced(&text)), TEXT);
        } else {
            add(&mut self.text, &text, TEXT);
        }
    }
}

/// Whether a part is the part of a report that programs read, which names who did not get a message and why.
fn is_report(kind: Option<&mail_parser::ContentType<'_>>) -> bool {
    kind.is_some_and(|kind| {
        let subtype = kind.subtype().unwrap_or_default();
        kind.ctype().eq_ignore_ascii_case("message")
            && subtype.to_ascii_lowercase().ends_with("delivery-status")
    })
}

/// The bytes of a part. What is encoded wrongly is taken as it stands, unless it is base64, which nobody can read.
fn decoded<'a>(body: &'a [u8], encoding: &str) -> Cow<'a, [u8]> {
    if encoding.eq_ignore_ascii_case("base64") {
        return Cow::Owned(base64_decode(body).unwrap_or_default());
    }
    if encoding.eq_ignore_ascii_case("quoted-printable") {
        return quoted_printable_decode(body).map_or(Cow::Borrowed(body), Cow::Owned);
    }
    Cow::Borrowed(body)
}

fn text_of<'a>(bytes: &'a [u8], charset: Option<&str>) -> Cow<'a, str> {
    let decoder = charset.filter(|name| !name.is_empty());
    match decoder.and_then(|name| charset_decoder(name.as_bytes())) {
        Some(decode) => Cow::Owned(decode(bytes)),
        None => String::from_utf8_lossy(bytes),
    }
}

/// Elements that may stand within a word.
const WITHIN_WORDS: [&str; 16] = [
    "a", "abbr", "b", "big", "em", "font", "i", "ins", "mark", "s", "small", "span", "strong",
    "sub", "sup", "u",
];

/// HTML with a blank in front of each element that is not within words: `html_to_text` makes one word of two cells of a table.
fn spaced(html: &str) -> String {
    let mut out = String::with_capacity(html.len() + html.len() / 8);
    let mut rest = html;
    while let Some(begin) = rest.find('<') {
        let (before, tag) = rest.split_at(begin);
        out.push_str(before);
        let name = tag[1..].strip_prefix('/').unwrap_or(&tag[1..]);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let name = &name[..end];
        if !WITHIN_WORDS.iter().any(|within| name.eq_ignore_ascii_case(within)) {
            out.push(' ');
        }
        out.push('<');
        rest = &tag[1..];
    }
    out.push_str(rest);
    out
}

/// Adds a text behind a line end, as far as there is room.
fn add(to: &mut String, text: &str, most: usize) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    if !to.is_empty() {
        to.push('\n');
    }
    let mut room = most.saturating_sub(to.len()).min(text.len());
    while !text.is_char_boundary(room) {
        room -= 1;
    }
    to.push_str(&text[..room]);
}

fn add_addresses(to: &mut String, addresses: Option<&Address<'_>>, most: usize) {
    let Some(addresses) = addresses else { return };
    for one in addresses.iter() {
        if to.len() >= most {
            return;
        }
        let parts = [one.name(), one.address()].map(Option::unwrap_or_default);
        add(to, parts.join(" ").trim(), most);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn text(message: &str) -> String {
        words(&Document::of(message.replace('\n', "\r\n").as_bytes()).text)
    }

    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn fields_are_read_as_people_read_them() {
        let message = "From: =?iso-8859-1?q?J=F6rg?= <joerg@example.org>\nSender: s@example.org\n\
            To: \"Bob B.\" <bob@example.org>, eve@example.org\nCc: Group: g@example.org;\n\
            Bcc: hidden@example.org\nReply-To: r@example.org\nSubject: =?utf-8?b?5p2x5Lqs?=\n\
            Date: Thu, 01 Jan 1970 01:00:01 +0100\n\nText\n";
        let document = Document::of(message.as_bytes());
        assert_eq!(document.subject, "東京");
        assert_eq!(words(&document.from), "Jörg joerg@example.org s@example.org r@example.org");
        let to = "Bob B. bob@example.org eve@example.org g@example.org hidden@example.org";
        assert_eq!(words(&document.to), to);
        assert_eq!(document.date, Some(1000));
        assert_eq!(document.text, "Text");
    }

    #[test]
    fn parts_are_decoded() {
        let message = "Content-Type: multipart/mixed; boundary=outer\n\npreamble\n--outer\n\
            Content-Type: multipart/alternative; boundary=inner\n\n--inner\n\
            Content-Type: text/plain; charset=iso-8859-1\n\
            Content-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe\n--inner\n\
            Content-Type: text/html\n\n<table><tr><td>one</td><td>t<b>w</b>o</td></tr></table>\n\
            --inner--\n\n--outer\nContent-Type: application/pdf; name=report.pdf\n\
            Content-Transfer-Encoding: base64\n\nAAAA\n--outer\n\
            Content-Type: text/csv; charset=shift_jis\nContent-Transfer-Encoding: base64\n\
            Content-Disposition: attachment; filename*=utf-8''list%20%C3%A4.csv\n\nk4yLnpNz\n\
            --outer\nContent-Type: message/rfc822\n\nSubject: within\nFrom: x@example.org\n\nbody of it\n\
            --outer--\nepilogue\n";
        assert_eq!(text(message), "Grüße one two 東京都 within x@example.org body of it");
        let files = Document::of(message.as_bytes()).files;
        assert_eq!(files, "report.pdf\nlist ä.csv");
    }

    #[test]
    fn what_is_broken_is_read_as_far_as_it_goes() {
        assert_eq!(text("no head at all"), "no head at all");
        assert_eq!(text("Content-Type: multipart/mixed; boundary=x\n\nlost parts\n"), "lost parts");
        let cut = "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nfirst\n--x\nContent-Type: text/html\n\n<p>sec";
        assert_eq!(text(cut), "first sec");
        let wrong = "Content-Transfer-Encoding: quoted-printable\n\na=ZZb\n";
        assert_eq!(text(wrong), "a=ZZb");
    }

    /// Messages that take long, or end the program, if they are read by recursion or from the beginning again and again.
    fn hostile() -> Vec<Vec<u8>> {
        let many = |text: &str| text.repeat(LOOKED_AT / text.len()).into_bytes();
        vec![
            many("Content-Type: message/rfc822\n\n"),
            many("Content-Type: multipart/mixed; boundary=x\n\n--x\n"),
            many("--x\nContent-Type: multipart/mixed; boundary=missing\n\n"),
            [b"Content-Type: multipart/mixed; boundary=x\n\n".to_vec(), many("--x\n\n")].concat(),
            [b"Subject: ".to_vec(), many("=?aa")].concat(),
            [b"Subject: ".to_vec(), many("=?utf-8?q?")].concat(),
            [b"To: ".to_vec(), many("((((<,\"")].concat(),
            [b"Content-Type: text/plain; ".to_vec(), many("a*0=b; ")].concat(),
            many("Subject: x\n"),
            [b"Content-Type: text/html\n\n".to_vec(), many("<")].concat(),
            [b"Content-Type: text/html\n\n".to_vec(), many("&#x41;<!-- ")].concat(),
            [b"Content-Type: text/plain; charset=utf-7\n\n".to_vec(), many("+AGE-")].concat(),
            [b"Content-Transfer-Encoding: quoted-printable\n\n".to_vec(), many("= \n")].concat(),
            vec![0; LOOKED_AT * 2],
            vec![b'\n'; LOOKED_AT],
        ]
    }

    #[test]
    fn no_message_costs_more_than_its_bytes() {
        for message in hostile() {
            let shown = String::from_utf8_lossy(&message[..message.len().min(60)]).into_owned();
            let began = Instant::now();
            let document = Document::of(&message);
            // Quadratic work on 2 MiB takes minutes in a build for tests, and linear work a tenth of a second.
            assert!(began.elapsed() < Duration::from_secs(20), "{shown:?}: {:?}", began.elapsed());
            assert!(
                document.text.len() <= TEXT && document.size() <= TEXT + 4 * FIELD,
                "{shown:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            Document::of(&bytes);
        }

        #[test]
        fn no_pieces_of_messages_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
            let document = Document::of(&pieces.concat());
            prop_assert!(document.text.len() <= TEXT);
        }
    }

    /// Pieces of which messages are made, so that what is put together reaches far.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let known: &[&str] = &[
            "Content-Type: multipart/mixed; boundary=x\r\n",
            "Content-Type: multipart/mixed; boundary=\"y y\"\n",
            "Content-Type: message/rfc822\n",
            "Content-Type: text/html; charset=",
            "Content-Type: text/plain; charset=utf-7; name*0*=utf-8''a%; name*1=b\n",
            "Content-Transfer-Encoding: base64\n",
            "Content-Transfer-Encoding: quoted-printable\r\n",
            "Content-Disposition: attachment; filename=\"=?utf-8?b?5p2x?=\"\n",
            "From: \"a\" <b@c>, d: e@f;\n",
            "Date: Thu, 99 Jan 99999 25:61:61 +9999\n",
            "Subject: =?utf-8?q?=C3?= =?iso-2022-jp?b?GyRC?=\n",
            "\n",
            "\r\n",
            "--x\n",
            "--x--\r\n",
            "--y y\n",
            "<td>&#xffffffff;&amp;&lt",
            "<!-- --",
            "=C3=\n=",
            "\u{3042}",
        ];
        let known = proptest::sample::select(known).prop_map(|text| text.as_bytes().to_vec());
        prop_oneof![3 => known, 1 => proptest::collection::vec(any::<u8>(), 0..20)]
    }
}
