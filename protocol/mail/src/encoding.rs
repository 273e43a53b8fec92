//! Transfer encodings of RFC 2045: what carries any bytes in short lines of ASCII.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::head::LineEnd;

/// The longest line of encoded text.
const MAX_LINE: usize = 76;

/// Bytes that make one line of base64.
const IN_LINE: usize = MAX_LINE / 4 * 3;

/// The longest line that a message may have as it is (RFC 5322, 2.1.1), without its end.
pub const MAX_PLAIN: usize = 998;

/// Whether a text goes through every server as it is: ASCII without NUL, no CR that ends no line, no line that is too long.
///
/// ```
/// use sundown_mail::encoding::is_plain;
///
/// assert!(is_plain(b"one\r\ntwo\n") && is_plain(b""));
/// assert!(!is_plain("Pr\u{fc}fung".as_bytes()) && !is_plain(b"a\rb") && !is_plain(&[b'x'; 999]));
/// ```
pub fn is_plain(text: &[u8]) -> bool {
    text.split_inclusive(|b| *b == b'\n').all(|line| {
        let line = line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l));
        line.len() <= MAX_PLAIN && line.iter().all(|b| b.is_ascii() && !matches!(b, 0 | b'\r'))
    })
}

/// The same text with other line ends; a CR that ends no line stays.
///
/// ```
/// use sundown_mail::encoding::with_line_ends;
/// use sundown_mail::head::LineEnd;
///
/// assert_eq!(with_line_ends(b"a\nb\r\n\r", LineEnd::CrLf), b"a\r\nb\r\n\r");
/// ```
pub fn with_line_ends(text: &[u8], end: LineEnd) -> Vec<u8> {
    let mut output = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                output.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                output.extend_from_slice(end.as_str().as_bytes());
            }
            None => output.extend_from_slice(line),
        }
    }
    output
}

/// Bytes in lines of base64, each with its end.
///
/// ```
/// use sundown_mail::encoding::base64;
/// use sundown_mail::head::LineEnd;
///
/// assert_eq!(base64(b"hello", LineEnd::Lf), b"aGVsbG8=\n");
/// ```
pub fn base64(bytes: &[u8], end: LineEnd) -> Vec<u8> {
    let mut output = Vec::with_capacity(bytes.len() / 4 * 6);
    for piece in bytes.chunks(IN_LINE) {
        output.extend_from_slice(STANDARD.encode(piece).as_bytes());
        output.extend_from_slice(end.as_str().as_bytes());
    }
    output
}

/// A text in quoted-printable. Its line ends stay line ends, and a CR that ends none is a byte like any other.
///
/// A line with a dot alone, and `From ` at the beginning of one, are encoded, too: programs on the way mean something by them.
///
/// ```
/// use sundown_mail::encoding::quoted_printable;
/// use sundown_mail::head::LineEnd;
///
/// let text = "1 = 1 \nPr\u{fc}fung\n.\nFrom here";
/// let encoded = quoted_printable(text.as_bytes(), LineEnd::CrLf);
/// assert_eq!(encoded, b"1 =3D 1=20\r\nPr=C3=BCfung\r\n=2E\r\n=46rom here");
/// ```
pub fn quoted_printable(text: &[u8], end: LineEnd) -> Vec<u8> {
    let mut output = Vec::with_capacity(text.len() + text.len() / 8);
    for whole in text.split_inclusive(|b| *b == b'\n') {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let ends = line.len() < whole.len();
        let line = if ends { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        quote_line(line, end, &mut output);
        if ends {
            output.extend_from_slice(end.as_str().as_bytes());
        }
    }
    output
}

fn quote_line(line: &[u8], end: LineEnd, output: &mut Vec<u8>) {
    let means_something = line == b"." || line.starts_with(b"From ");
    let mut begin = output.len();
    for (at, &byte) in line.iter().enumerate() {
        let last = at + 1 == line.len();
        let plain = match byte {
            _ if at == 0 && means_something => false,
            b' ' | b'\t' => !last,
            byte => matches!(byte, b'!'..=b'~') && byte != b'=',
        };
        // A soft line break takes one more, but for the last one of a line.
        let (size, room) = (if plain { 1 } else { 3 }, MAX_LINE - usize::from(!last));
        if output.len() - begin + size > room {
            output.push(b'=');
            output.extend_from_slice(end.as_str().as_bytes());
            begin = output.len();
        }
        if plain {
            output.push(byte);
        } else {
            output.extend_from_slice(format!("={byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    use super::*;

    /// What a parser that knows nothing of this crate makes of an encoded body.
    fn decoded(encoding: &str, body: &[u8]) -> Vec<u8> {
        let head =
            format!("Content-Type: application/x\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let message = [head.as_bytes(), body].concat();
        let parsed = MessageParser::new().parse(&message).expect("it parses");
        parsed.parts[0].contents().to_vec()
    }

    #[test]
    fn lines_are_short_and_mean_the_same() {
        for text in
            ["x".repeat(500), "ü€".repeat(100), " ".repeat(200), "=".repeat(77), "a \n".repeat(9)]
        {
            for end in [LineEnd::Lf, LineEnd::CrLf] {
                let wire = with_line_ends(text.as_bytes(), LineEnd::CrLf);
                let quoted = quoted_printable(text.as_bytes(), end);
                for encoded in [&quoted, &base64(&wire, end)] {
                    assert!(is_plain(encoded));
                    let mut lines = encoded.split(|b| *b == b'\n');
                    assert!(lines.all(|l| l.strip_suffix(b"\r").unwrap_or(l).len() <= MAX_LINE));
                }
                let same = with_line_ends(text.as_bytes(), end);
                assert_eq!(decoded("quoted-printable", &quoted), same);
                assert_eq!(decoded("base64", &base64(&wire, end)), wire);
            }
        }
    }

    #[test]
    fn lines_are_as_long_as_they_may_be() {
        let lines = |encoded: Vec<u8>| {
            let lines: Vec<_> = encoded.split(|b| *b == b'\n').map(<[u8]>::len).collect();
            lines
        };
        assert_eq!(lines(base64(&[0; 58], LineEnd::Lf)), [76, 4, 0]);
        let quoted = |text: &str| lines(quoted_printable(text.as_bytes(), LineEnd::Lf));
        assert_eq!(quoted(&"x".repeat(76)), [76]);
        assert_eq!(quoted(&"x".repeat(77)), [76, 2]);
        assert_eq!(quoted(&"x".repeat(152)), [76, 76, 2]);
        // An encoded byte stays in one line.
        assert_eq!(quoted(&"=".repeat(25)), [75]);
        assert_eq!(quoted(&format!("{}=", "x".repeat(73))), [76]);
        assert_eq!(quoted(&format!("{}=", "x".repeat(74))), [75, 3]);
        assert_eq!(quoted(&format!("{}=x", "x".repeat(73))), [74, 4]);
    }

    #[test]
    fn what_is_plain() {
        assert!(is_plain(&[&[b'x'; 998][..], b"\r\n"].concat()));
        for text in [&b"\0"[..], b"\r", b"a\r", b"\r\r\n", b"\x80", &[b'x'; 999]] {
            assert!(!is_plain(text), "{text:?}");
        }
    }

    const PIECES: &[&[u8]] = &[
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"=",
        b".",
        b"From ",
        b"\0",
        b"\x80",
        b"\xff",
        b"word",
        b"-",
        b"a long line of many words, ",
    ];

    proptest! {
        /// Any bytes come back.
        #[test]
        fn what_is_encoded_is_decoded(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        ) {
            let text = pieces.concat();
            prop_assert_eq!(decoded("base64", &base64(&text, LineEnd::CrLf)), text.clone());
            let quoted = quoted_printable(&text, LineEnd::CrLf);
            let wire = with_line_ends(&text, LineEnd::CrLf);
            prop_assert_eq!(decoded("quoted-printable", &quoted), wire);
        }
    }
}
