//! Messages that Sundown writes itself: a text of a person, fields for it, files with it (RFC 2045, 2046, 2183, 2231).
//!
//! The same text, fields and files always make the same message: a repeat of a submit is recognized by that.

use crate::address::to_ascii;
use crate::encoding::{base64, is_plain, quoted_printable, with_line_ends};
use crate::head::{Fields, LineEnd};
use crate::list::mailboxes;
use crate::name::with_address;

/// A file that goes with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, without folders.
    pub name: String,
    /// What it is, `image/png`. What it takes to say that text is in UTF-8 is added.
    pub media_type: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// An address list for a field: as it is, or if it is not ASCII each address with its name encoded. The mailbox of an address may be
/// beyond ASCII all the same, which only some servers take.
///
/// ```
/// use sundown_mail::compose::address_list;
///
/// assert_eq!(address_list("\u{c4}nna <anna@b\u{fc}cher.example>, bo"), "=?utf-8?q?=C3=84nna?= <anna@xn--bcher-kva.example>, bo");
/// assert_eq!(address_list("friends: anna@example.org;"), "friends: anna@example.org;");
/// ```
pub fn address_list(list: &str) -> String {
    if list.is_ascii() {
        return list.to_owned();
    }
    let found = mailboxes(list);
    let written = found.iter().map(|found| with_address(&found.name, &to_ascii(&found.address)));
    written.collect::<Vec<_>>().join(", ")
}

/// A message of this text alone: it begins with the fields that say how to read the text, or with an empty line if there is nothing to
/// say.
///
/// ```
/// use sundown_mail::compose::text;
///
/// assert_eq!(text(b"plain"), b"\nplain");
/// let composed = String::from_utf8(text("Pr\u{fc}fung\n".as_bytes())).unwrap();
/// assert!(composed.starts_with("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"));
/// assert!(composed.ends_with("\n\nPr=C3=BCfung\n"));
/// ```
pub fn text(text: &[u8]) -> Vec<u8> {
    let end = LineEnd::of(text);
    let part = Part::text(text, end);
    let version: &[u8] = if part.fields.is_empty() { b"" } else { VERSION };
    [&lines(version, end), &part.fields, end.as_str().as_bytes(), &part.body].concat()
}

/// The fields that say how to read the text of a message with a head that says nothing about it; none if there is nothing to say. The
/// text itself stays as it is.
///
/// ```
/// use sundown_mail::compose::label;
///
/// assert_eq!(label("Subject: x\n\n\u{fc}".as_bytes())[1], ("Content-Type", "text/plain; charset=utf-8"));
/// assert_eq!(label("Content-Type: text/html\n\n\u{fc}".as_bytes()), []);
/// assert_eq!(label(b"Subject: x\n\nASCII"), []);
/// ```
pub fn label(message: &[u8]) -> Vec<(&'static str, &'static str)> {
    let head = Split::of(message);
    if head.body.is_ascii() || !head.content.is_empty() {
        return Vec::new();
    }
    let kind = text_type(head.body);
    let version = ("MIME-Version", "1.0");
    vec![version, ("Content-Type", kind), ("Content-Transfer-Encoding", "8bit")]
}

/// A message with files behind what it was. Its fields stay, but for those of its body, which is now the first part; a body
/// without anything in it is none.
///
/// ```
/// use sundown_mail::compose::{Attachment, with_attachments};
///
/// let file = Attachment { name: "a.bin".into(), media_type: "application/octet-stream".into(), content: vec![0] };
/// let message = String::from_utf8(with_attachments(b"To: bo\n\nhere it is\n", &[file])).unwrap();
/// assert!(message.starts_with("To: bo\nMIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary="));
/// assert!(message.contains("\n\nhere it is\n\n--=_"));
/// assert!(message.contains("\nContent-Disposition: attachment; filename=\"a.bin\"\n"));
/// ```
pub fn with_attachments(message: &[u8], attachments: &[Attachment]) -> Vec<u8> {
    let end = LineEnd::of(message);
    let head = Split::of(message);
    let first = if head.content.is_empty() {
        Part::text(head.body, end)
    } else {
        Part { fields: lines(&head.content, end), body: head.body.to_vec() }
    };
    let boundary = boundary_for(&first.body);
    let mut output = Vec::new();
    output.extend_from_slice(&head.others);
    let kind = format!("Content-Type: multipart/mixed;\n boundary=\"{boundary}\"\n");
    let encoding: &[u8] =
        if first.body.is_ascii() { b"" } else { b"Content-Transfer-Encoding: 8bit\n" };
    output.extend(lines(&[VERSION, kind.as_bytes(), encoding].concat(), end));
    if !(first.fields.is_empty() && first.body.trim_ascii().is_empty()) {
        first.write(&boundary, end, &mut output);
    }
    for attachment in attachments {
        Part::file(attachment, end).write(&boundary, end, &mut output);
    }
    output.extend(lines(format!("\n--{boundary}--\n").as_bytes(), end));
    output
}

const VERSION: &[u8] = b"MIME-Version: 1.0\n";

/// Lines that end with LF, with these ends.
fn lines(text: &[u8], end: LineEnd) -> Vec<u8> {
    with_line_ends(text, end)
}

/// A message taken apart.
struct Split<'a> {
    /// The fields that say how to read the body.
    content: Vec<u8>,
    /// The others.
    others: Vec<u8>,
    body: &'a [u8],
}

impl<'a> Split<'a> {
    fn of(message: &'a [u8]) -> Self {
        let (mut content, mut others) = (Vec::new(), Vec::new());
        let mut fields = Fields::of(message);
        for field in fields.by_ref() {
            let name = field.name().to_ascii_lowercase();
            if name.starts_with(b"content-") {
                content.extend_from_slice(field.raw());
            } else if name != b"mime-version" {
                others.extend_from_slice(field.raw());
            }
        }
        let behind = &message[fields.passed().len()..];
        let body = behind.strip_prefix(b"\r\n").or_else(|| behind.strip_prefix(b"\n"));
        let end = LineEnd::of(message).as_str().as_bytes();
        for fields in [&mut content, &mut others] {
            if !fields.is_empty() && !fields.ends_with(b"\n") {
                fields.extend_from_slice(end);
            }
        }
        Self { content, others, body: body.unwrap_or(behind) }
    }
}

/// A part of a message, with fields of its own.
struct Part {
    fields: Vec<u8>,
    body: Vec<u8>,
}

impl Part {
    /// A text that every server takes. Plain text is it without a field.
    fn text(text: &[u8], end: LineEnd) -> Self {
        if is_plain(text) {
            return Self { fields: Vec::new(), body: text.to_vec() };
        }
        let quoted = quoted_printable(text, end);
        let coded = base64(&with_line_ends(text, LineEnd::CrLf), end);
        let (encoding, body) = if quoted.len() <= coded.len() {
            ("quoted-printable", quoted)
        } else {
            ("base64", coded)
        };
        let kind = text_type(text);
        let fields = format!("Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n");
        Self { fields: lines(fields.as_bytes(), end), body }
    }

    fn file(attachment: &Attachment, end: LineEnd) -> Self {
        let media_type = &attachment.media_type;
        let charset = match std::str::from_utf8(&attachment.content) {
            _ if !media_type.starts_with("text/") => "",
            Ok(_) => "; charset=utf-8",
            Err(_) => "; charset=unknown-8bit",
        };
        let fields = format!(
            "Content-Type: {media_type}{charset}\n\
             Content-Disposition: attachment{}\n\
             Content-Transfer-Encoding: base64\n",
            file_name(&attachment.name)
        );
        Self { fields: lines(fields.as_bytes(), end), body: base64(&attachment.content, end) }
    }

    /// The line end in front of a boundary belongs to it, and not to the body.
    fn write(self, boundary: &str, end: LineEnd, output: &mut Vec<u8>) {
        output.extend(lines(format!("\n--{boundary}\n").as_bytes(), end));
        output.extend(self.fields);
        output.extend_from_slice(end.as_str().as_bytes());
        output.extend(self.body);
    }
}

/// What a text is.
fn text_type(text: &[u8]) -> &'static str {
    match std::str::from_utf8(text) {
        Ok(_) if text.is_ascii() => "text/plain; charset=us-ascii",
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "text/plain; charset=unknown-8bit",
    }
}

/// How every boundary begins. It is in no line of base64 or quoted-printable.
const BOUNDARY: &str = "=_sundown_";

/// A boundary that no line of this body begins with: the first number that none of them has.
fn boundary_for(body: &[u8]) -> String {
    let numbered = |line: &[u8]| {
        let digits = line.strip_prefix(b"--")?.strip_prefix(BOUNDARY.as_bytes())?.get(..8)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    // A CR begins a line for some readers.
    let taken = body.split(|b| matches!(b, b'\n' | b'\r')).filter_map(numbered);
    let taken: std::collections::BTreeSet<_> = taken.collect();
    let free = (0..).zip(&taken).find(|(number, taken)| number != *taken).map(|(number, _)| number);
    format!("{BOUNDARY}{:08x}", free.unwrap_or(taken.len() as u32))
}

/// The longest piece of a name in a line.
const MAX_PIECE: usize = 54;

/// The parameter that names a file: quoted if it is short and plain, else by RFC 2231, in pieces of whole characters.
fn file_name(name: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    if name.len() <= 40 && name.chars().all(plain) {
        return format!("; filename=\"{name}\"");
    }
    let mut pieces = vec![String::new()];
    for c in name.chars() {
        let one: String = c.encode_utf8(&mut [0; 4]).bytes().map(in_parameter).collect();
        if pieces.last().is_some_and(|piece| piece.len() + one.len() > MAX_PIECE) {
            pieces.push(String::new());
        }
        pieces.last_mut().expect("there is a first piece").push_str(&one);
    }
    match &pieces[..] {
        [piece] => format!(";\n filename*=utf-8''{piece}"),
        pieces => {
            let charset = |number| if number == 0 { "utf-8''" } else { "" };
            let pieces = pieces.iter().enumerate();
            pieces.map(|(n, piece)| format!(";\n filename*{n}*={}{piece}", charset(n))).collect()
        }
    }
}

/// A byte as RFC 2231 has it.
fn in_parameter(byte: u8) -> String {
    match byte {
        b'.' | b'-' | b'_' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders, PartType};

    use super::*;
    use crate::head::in_front;
    use crate::name;

    fn file(name: &str, media_type: &str, content: &[u8]) -> Attachment {
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        Attachment { name, media_type, content: content.to_vec() }
    }

    /// Every line is ASCII, no longer than mail may have them, and ends in the same way.
    fn assert_clean(message: &[u8]) {
        let text = std::str::from_utf8(message).expect("text");
        assert!(text.is_ascii(), "{text}");
        let end = LineEnd::of(message).as_str();
        for line in text.split(end) {
            assert!(line.len() <= 78 && !line.contains(['\r', '\n']), "{line:?} in {text}");
        }
    }

    #[test]
    fn a_text_is_read_as_it_was_written() {
        let long = "long ".repeat(500);
        let texts = [
            "Die Prüfung ist rot\n",
            "日本語の本文です。\n",
            &long,
            "a\r\nü\r\n",
            "ü\rx",
            "\0\n",
            "",
        ];
        for written in texts {
            let fields = [("Subject", name::text("Prüfung")), ("From", address_list("Änna <a@b>"))];
            let message = text(written.as_bytes());
            let message = [in_front(&message, fields), message].concat();
            assert_clean(&message);
            let parsed = MessageParser::new().parse(&message).expect("it parses");
            assert_eq!(parsed.subject(), Some("Prüfung"));
            let from = parsed.from().and_then(|from| from.first()).expect("a From");
            assert_eq!((from.name(), from.address()), (Some("Änna"), Some("a@b")));
            let read = parsed.body_text(0).unwrap_or_default().replace("\r\n", "\n");
            assert_eq!(read, written.replace("\r\n", "\n"), "{}", message.escape_ascii());
        }
    }

    /// How text is labelled, and how the names of files are written.
    #[test]
    fn fields_of_parts_are_exact() {
        let long = "x".repeat(999);
        let fields =
            |text: &str| String::from_utf8(Part::text(text.as_bytes(), LineEnd::Lf).fields);
        let of_long = fields(&long).expect("text");
        assert!(of_long.starts_with("Content-Type: text/plain; charset=us-ascii\n"), "{of_long}");
        let of_file = |media_type: &str, content: &[u8]| {
            let part = Part::file(&file("a", media_type, content), LineEnd::Lf);
            let fields = String::from_utf8(part.fields).expect("text");
            fields.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(of_file("image/png", b"\xff"), "Content-Type: image/png");
        assert_eq!(of_file("text/csv", b"\xff"), "Content-Type: text/csv; charset=unknown-8bit");
        assert_eq!(of_file("text/csv", b"x"), "Content-Type: text/csv; charset=utf-8");
        let (short, longer) = ("x".repeat(40), "x".repeat(54));
        let cases = [
            (short.clone(), format!("; filename=\"{short}\"")),
            (format!("{short}x"), format!(";\n filename*=utf-8''{short}x")),
            (longer.clone(), format!(";\n filename*=utf-8''{longer}")),
            (
                format!("{longer}.-_ b"),
                format!(";\n filename*0*=utf-8''{longer};\n filename*1*=.-_%20b"),
            ),
            (
                format!("{}\u{fc}b", "x".repeat(49)),
                format!(";\n filename*0*=utf-8''{};\n filename*1*=%C3%BCb", "x".repeat(49)),
            ),
        ];
        for (name, wanted) in cases {
            assert_eq!(file_name(&name), wanted);
        }
    }

    #[test]
    fn a_text_that_is_no_utf_8_says_so() {
        let message = text(b"J\xfcrgen\n");
        let parsed = MessageParser::new().parse(&message).expect("it parses");
        let kind = parsed.content_type().expect("it has a type");
        assert_eq!(kind.attribute("charset"), Some("unknown-8bit"));
        assert!(message.ends_with(b"\n\nJ=FCrgen\n"));
    }

    #[test]
    fn attachments_are_what_was_attached() {
        let every: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let names = [
            "a.png",
            "Prüfung für \"alle\" \\ (1).pdf",
            &"ü€𝄞 x".repeat(20),
            "",
            "a\r\nb",
            "x'*%y",
        ];
        let files: Vec<_> = names.iter().map(|name| file(name, "image/png", &every)).collect();
        for written in ["Die Prüfung\n", "plain\n", "plain\r\n"] {
            let message = with_attachments(&text(written.as_bytes()), &files);
            assert_clean(&message);
            let parsed = MessageParser::new().parse(&message).expect("it parses");
            assert_eq!(parsed.content_type().and_then(|t| t.subtype()), Some("mixed"));
            let read = parsed.body_text(0).unwrap_or_default();
            assert_eq!(read.trim_end(), written.trim_end());
            let found: Vec<_> = parsed.attachments().collect();
            assert_eq!(found.len(), names.len());
            for (found, name) in found.iter().zip(names) {
                assert_eq!(found.attachment_name().unwrap_or_default(), name);
                assert_eq!(found.contents(), every);
            }
        }
    }

    #[test]
    fn a_message_with_a_head_keeps_its_fields_and_its_body() {
        let own = "To: bo\nSubject: own\nContent-Type: text/html; charset=utf-8\nMIME-Version: 1.0\nX: y\n folded\n\n<b>ü</b>\n";
        let message =
            with_attachments(own.as_bytes(), &[file("n.txt", "text/plain", "ä".as_bytes())]);
        let parsed = MessageParser::new().parse(&message).expect("it parses");
        assert_eq!((parsed.subject(), parsed.parts.len()), (Some("own"), 3));
        assert_eq!(parsed.body_html(0).as_deref(), Some("<b>ü</b>\n"));
        assert!(matches!(parsed.parts[1].body, PartType::Html(_)));
        let attached = parsed.attachment(0).expect("one").content_type().expect("a type");
        assert_eq!(attached.attribute("charset"), Some("utf-8"));
        let head = Split::of(&message);
        assert_eq!(head.others, b"To: bo\nSubject: own\nX: y\n folded\n");
        assert_eq!(std::str::from_utf8(&head.content).expect("text").matches("8bit").count(), 1);
    }

    #[test]
    fn an_empty_text_is_no_part() {
        let message = with_attachments(b"To: bo\n\n\n", &[file("a", "image/png", b"x")]);
        assert_eq!(MessageParser::new().parse(&message).expect("it parses").parts.len(), 2);
        // A head without an end is a head.
        let message = with_attachments(b"Subject: x", &[file("a", "image/png", b"x")]);
        assert!(message.starts_with(b"Subject: x\nMIME-Version"), "{}", message.escape_ascii());
    }

    /// What stands in a text is no boundary of the message that it is in, also if that text was composed here before.
    #[test]
    fn a_message_may_be_in_a_message() {
        let mut text = b"To: bo\n\nfirst\n".to_vec();
        for depth in 1..4 {
            text = with_attachments(&text, &[file("a", "image/png", b"x")]);
            let boundaries = MessageParser::new().parse(&text).expect("it parses");
            assert_eq!(boundaries.parts.len(), 2 * depth + 1);
        }
        let hostile = b"Content-Type: text/plain\n\n--=_sundown_00000000\n--=_sundown_00000002--\r--=_sundown_00000001\n";
        let message = with_attachments(hostile, &[file("a", "image/png", b"x")]);
        let text = String::from_utf8(message).expect("text");
        assert!(text.contains("boundary=\"=_sundown_00000003\""), "{text}");
    }

    #[test]
    fn lists_are_encoded_address_by_address() {
        for (list, wanted) in [
            ("A <a@b>, c", "A <a@b>, c"),
            ("Ä, B <a@b>", "Ä, \"B\" <a@b>"),
            ("\"Ä, B\" <a@b>, c@ü.de", "=?utf-8?q?=C3=84=2C_B?= <a@b>, c@xn--tda.de"),
            ("jürgen@b", "jürgen@b"),
        ] {
            assert_eq!(address_list(list), wanted, "{list:?}");
        }
    }
}
