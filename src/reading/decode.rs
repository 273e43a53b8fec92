//! What bytes of a part mean: transfer encodings and character sets. What is not what it says is shown as it is, and nothing fails.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::{
    quoted_printable_decode, quoted_printable_decode_char,
};

/// How a part is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    #[default]
    None,
    Base64,
    QuotedPrintable,
}

impl Encoding {
    /// That of this name. Programs that know no other name treat the part as not encoded.
    pub(super) fn of(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            _ => Self::None,
        }
    }

    /// The content, and whether it is what was encoded. What cannot be decoded in it stays as it is.
    pub(super) fn decoded(self, bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
        let decoded = match self {
            Self::None => return (Cow::Borrowed(bytes), true),
            Self::Base64 => base64_decode(bytes),
            Self::QuotedPrintable => quoted_printable_decode(bytes),
        };
        match decoded {
            Some(content) => (Cow::Owned(content), true),
            None => (Cow::Owned(self.mended(bytes)), false),
        }
    }

    /// The content of what is not encoded as it says.
    fn mended(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Base64 => {
                // Programs put lines of their own behind a text without looking how it is encoded.
                let is_code =
                    |byte: &u8| is_base64(*byte) || *byte == b'=' || byte.is_ascii_whitespace();
                let lines = bytes.split_inclusive(|byte| *byte == b'\n');
                let code: usize =
                    lines.take_while(|line| line.iter().all(is_code)).map(<[u8]>::len).sum();
                let (code, rest) = bytes.split_at(code);
                [&base64_decode(code).unwrap_or_else(|| code.to_vec()), rest].concat()
            }
            Self::QuotedPrintable => {
                let mut content = Vec::with_capacity(bytes.len());
                let mut rest = bytes;
                while let Some((byte, behind)) = rest.split_first() {
                    let (meant, length) = match behind {
                        _ if *byte != b'=' => (Some(*byte), 0),
                        [b'\r', b'\n', ..] => (None, 2),
                        [b'\n', ..] => (None, 1),
                        [one, other, ..] => match quoted_printable_decode_char(*one, *other) {
                            Some(byte) => (Some(byte), 2),
                            None => (Some(b'='), 0),
                        },
                        _ => (Some(b'='), 0),
                    };
                    content.extend(meant);
                    rest = &behind[length..];
                }
                content
            }
        }
    }
}

impl Encoding {
    /// How long the content is. It is not decoded for that.
    pub(super) fn size(self, bytes: &[u8]) -> u64 {
        let length = match self {
            Self::None => bytes.len(),
            Self::Base64 => bytes.iter().filter(|byte| is_base64(**byte)).count() * 3 / 4,
            Self::QuotedPrintable => {
                // Each `=` stands for itself and two more: a byte, or a line end that is none.
                let soft = bytes
                    .windows(2)
                    .filter(|two| two[0] == b'=' && matches!(two[1], b'\r' | b'\n'));
                let soft: usize = soft.map(|two| if two[1] == b'\r' { 3 } else { 2 }).sum();
                let hard =
                    bytes.windows(2).filter(|two| two[0] == b'=' && two[1].is_ascii_hexdigit());
                bytes.len().saturating_sub(soft + 2 * hard.count())
            }
        };
        length as u64
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Whether a character set is called so that needs no decoder.
pub(super) fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "unicode-1-1-utf-8"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// Whether it is called so by programs that do not know which one it is.
fn is_ascii(charset: &str) -> bool {
    ["us-ascii", "ascii", ""].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// Bytes as text, and whether their character set is known. Without one, they are UTF-8 if they can be, else Windows-1252, in which every
/// byte is a character.
pub(super) fn text<'a>(bytes: &'a [u8], charset: Option<&str>) -> (Cow<'a, str>, bool) {
    let charset = charset.unwrap_or_default().trim();
    let decoder = charset_decoder(charset.as_bytes()).filter(|_| !is_ascii(charset));
    match decoder {
        _ if is_utf8(charset) => (String::from_utf8_lossy(bytes), true),
        Some(decoder) => (Cow::Owned(decoder(bytes)), true),
        None => {
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => in_western(bytes),
            };
            (text, is_ascii(charset))
        }
    }
}

fn in_western(bytes: &[u8]) -> Cow<'_, str> {
    match charset_decoder(b"windows-1252") {
        Some(decoder) => Cow::Owned(decoder(bytes)),
        None => String::from_utf8_lossy(bytes),
    }
}

/// The beginning of an encoded text, of at most so many bytes: whole lines, if it has lines.
pub(super) fn beginning(bytes: &[u8], most: usize) -> &[u8] {
    let part = &bytes[..most.min(bytes.len())];
    if part.len() == bytes.len() {
        return bytes;
    }
    match part.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => &part[..=end],
        None => part,
    }
}

/// As much of a text as so many bytes have room for.
pub(super) fn within(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_decoded_stays() {
        let (base64, quoted) = (Encoding::of("BASE64 "), Encoding::of("Quoted-Printable"));
        for (encoding, bytes, content, is_so) in [
            (base64, &b"aGVs\r\nbG8=\r\n"[..], &b"hello"[..], true),
            (base64, b"aGVsbG8", b"hello", true),
            (base64, b"this is *no* code", b"this is *no* code", false),
            (base64, b"aGVs\nbG8=\n~~~\nlist\n", b"hello~~~\nlist\n", false),
            (quoted, b"a=3Db=\r\nc", b"a=bc", true),
            (quoted, b"100 =% of=3D=\n=41=", b"100 =% of=A=", false),
            (Encoding::of("8bit"), b"a=3D", b"a=3D", true),
        ] {
            assert_eq!(encoding.decoded(bytes), (Cow::Borrowed(content), is_so), "{bytes:?}");
        }
    }

    #[test]
    fn sizes_are_those_of_what_is_decoded() {
        for (encoding, bytes) in [
            (Encoding::Base64, &b"aGVs\r\nbG8=\r\n"[..]),
            (Encoding::Base64, b"aGVsbG8h"),
            (Encoding::QuotedPrintable, b"a=3D=C3=A9=\r\nb=\nc\r\nd"),
            (Encoding::None, b"a=3D"),
        ] {
            let decoded = encoding.decoded(bytes).0.len() as u64;
            assert_eq!(encoding.size(bytes), decoded, "{encoding:?}");
        }
    }

    #[test]
    fn every_byte_is_some_character() {
        for (bytes, charset, shown, known) in [
            (&b"caf\xc3\xa9"[..], None, "café", true),
            (b"caf\xc3\xa9", Some("us-ascii"), "café", true),
            (b"caf\xe9", None, "café", true),
            (b"caf\xe9", Some("ISO-8859-1"), "café", true),
            (b"caf\xe9", Some("x-unheard-of"), "café", false),
            (b"caf\xc3\xa9", Some("x-unheard-of"), "café", false),
            (b"a\xffb", Some("utf-8"), "a\u{fffd}b", true),
            (b"\x83n\x83\x8d\x81[", Some("Shift_JIS"), "ハロー", true),
            (b"\x1b$B%O%m!<\x1b(B", Some("iso-2022-jp"), "ハロー", true),
            (b"\xc4\xe3\xba\xc3", Some("GB2312"), "你好", true),
            (b"\xbe\xc8\xb3\xe7", Some("euc-kr"), "안녕", true),
        ] {
            assert_eq!(text(bytes, charset), (Cow::Borrowed(shown), known), "{charset:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_lines() {
        assert_eq!(beginning(b"ab\ncd\nef", 7), b"ab\ncd\n");
        assert_eq!(beginning(b"abcdef", 4), b"abcd");
        assert_eq!(beginning(b"ab\ncd", 5), b"ab\ncd");
        assert_eq!([within("aé", 2), within("aé", 3), within("aé", 9)], ["a", "aé", "aé"]);
    }
}
