//! Bodies as lines of ASCII: written so from the start, or mended where they say that they are and are not.

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The longest line of both encodings (RFC 2045, 6.7 and 6.8).
const LINE: usize = 76;

/// Where a line is broken that is too long, of a text that is encoded already.
const MENDED: usize = 900;

/// The most of a line that is left of what readers pass over.
const KEPT: usize = 990;

/// What ends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A boundary, to which the line end in front of it belongs.
    Boundary,
    /// The end of the message.
    Message,
}

/// Writes a body.
#[derive(Debug)]
pub(super) enum Encoder {
    /// As it is.
    Same,
    /// In quoted-printable.
    Quoted { column: usize, blank: Option<u8>, broken: bool },
    /// In base64.
    Base64 { column: usize, carry: Vec<u8>, line_end: bool },
    /// It is in quoted-printable, but for some bytes.
    MendQuoted { column: usize, escape: u8 },
    /// It is in base64, but for some bytes, which readers pass over.
    MendBase64 { column: usize },
    /// Readers pass over all of it.
    Unread { column: usize },
}

impl Encoder {
    pub(super) fn quoted() -> Self {
        Self::Quoted { column: 0, blank: None, broken: false }
    }

    pub(super) fn base64() -> Self {
        Self::Base64 { column: 0, carry: Vec::new(), line_end: false }
    }

    /// A piece of a line.
    pub(super) fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Same => out.extend_from_slice(text),
            Self::Quoted { column, blank, broken } => {
                for byte in text {
                    if let Some(blank) = blank.take() {
                        quote(&[blank], (column, broken), out);
                    }
                    match byte {
                        b' ' | b'\t' => *blank = Some(*byte),
                        // At the beginning of a line that is none, two of them could be a boundary.
                        b'-' if *broken && *column == 0 => quote(b"=2D", (column, broken), out),
                        33..=60 | 62..=126 => quote(&[*byte], (column, broken), out),
                        _ => quote(&escaped(*byte), (column, broken), out),
                    }
                }
            }
            Self::Base64 { column, carry, line_end } => {
                if !text.is_empty() && std::mem::take(line_end) {
                    in_threes(b"\r\n", carry, column, out);
                }
                in_threes(text, carry, column, out);
            }
            Self::MendQuoted { column, escape } => {
                for byte in text {
                    mend(*byte, (column, escape), out);
                }
            }
            Self::MendBase64 { column } => {
                for byte in text.iter().filter(|byte| byte.is_ascii()) {
                    if *column == MENDED {
                        out.extend_from_slice(b"\r\n");
                        *column = 0;
                    }
                    out.push(*byte);
                    *column += 1;
                }
            }
            Self::Unread { column } => {
                let left = text.iter().take(KEPT - *column);
                *column += left.len();
                out.extend(left.map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
            }
        }
    }

    /// The end of a line.
    pub(super) fn line_end(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Same => {}
            Self::Quoted { column, blank, broken } => {
                if let Some(blank) = blank.take() {
                    quote(&escaped(blank), (column, broken), out);
                }
                (*column, *broken) = (0, false);
            }
            Self::Base64 { column, carry, line_end } => {
                if std::mem::replace(line_end, true) {
                    in_threes(b"\r\n", carry, column, out);
                }
                return;
            }
            Self::MendQuoted { column, escape } => (*column, *escape) = (0, 0),
            Self::MendBase64 { column } | Self::Unread { column } => *column = 0,
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The end of the body.
    pub(super) fn finish(&mut self, end: End, out: &mut Vec<u8>) {
        match self {
            Self::Quoted { column, blank: Some(blank), broken } => {
                quote(&escaped(*blank), (column, broken), out);
            }
            Self::Base64 { column, carry, line_end } => {
                if *line_end && end == End::Message {
                    in_threes(b"\r\n", carry, column, out);
                }
                if !carry.is_empty() {
                    let full = carry.len();
                    carry.resize(3, 0);
                    let mut four = four(carry);
                    four[full + 1..].fill(b'=');
                    push_four(four, column, out);
                }
                if *column > 0 {
                    out.extend_from_slice(b"\r\n");
                }
            }
            _ => {}
        }
        *self = Self::Same;
    }
}

fn escaped(byte: u8) -> [u8; 3] {
    [b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

fn quote(token: &[u8], (column, broken): (&mut usize, &mut bool), out: &mut Vec<u8>) {
    let mut token = token;
    let dash = escaped(b'-');
    if *column + token.len() >= LINE {
        out.extend_from_slice(b"=\r\n");
        (*column, *broken) = (0, true);
        if token == b"-" {
            token = &dash;
        }
    }
    out.extend_from_slice(token);
    *column += token.len();
}

fn mend(byte: u8, (column, escape): (&mut usize, &mut u8), out: &mut Vec<u8>) {
    if *escape == 0 && *column >= MENDED {
        out.extend_from_slice(b"=\r\n");
        *column = 0;
    }
    let before = out.len();
    if byte.is_ascii() {
        out.push(byte);
    } else {
        out.extend_from_slice(&escaped(byte));
    }
    *column += out.len() - before;
    *escape = if byte == b'=' { 2 } else { escape.saturating_sub(1) };
}

fn in_threes(text: &[u8], carry: &mut Vec<u8>, column: &mut usize, out: &mut Vec<u8>) {
    for byte in text {
        carry.push(*byte);
        if carry.len() == 3 {
            push_four(four(carry), column, out);
            carry.clear();
        }
    }
}

fn four(three: &[u8]) -> [u8; 4] {
    let all = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
    [18, 12, 6, 0].map(|shift| BASE64[(all >> shift & 63) as usize])
}

fn push_four(four: [u8; 4], column: &mut usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&four);
    *column += 4;
    if *column == LINE {
        out.extend_from_slice(b"\r\n");
        *column = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mut encoder: Encoder, lines: &[&[u8]], end: End) -> String {
        let mut out = Vec::new();
        for line in lines {
            for piece in line.chunks(7) {
                encoder.text(piece, &mut out);
            }
            encoder.line_end(&mut out);
        }
        encoder.finish(end, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn quoted_printable_keeps_lines_and_their_blanks() {
        let lines: [&[u8]; 4] = ["a \u{fc} = b".as_bytes(), b"-- ", b"", b"\t"];
        let text = written(Encoder::quoted(), &lines, End::Message);
        assert_eq!(text, "a =C3=BC =3D b\r\n--=20\r\n\r\n=09\r\n");
    }

    #[test]
    fn long_lines_are_broken_where_no_boundary_can_begin() {
        let line = [&b"x"[..], &[b'-'; 200], &[0xff; 40]].concat();
        let text = written(Encoder::quoted(), &[&line], End::Message);
        for line in text.split("\r\n") {
            assert!(line.len() <= LINE && !line.starts_with('-'), "{text}");
        }
        let joined = text.replace("=\r\n", "").replace("=2D", "-");
        assert_eq!(joined, format!("x{}{}\r\n", "-".repeat(200), "=FF".repeat(40)));
    }

    #[test]
    fn base64_leaves_the_line_end_to_the_boundary() {
        let cases: [(&[&[u8]], End, &str); 5] = [
            (&[b"ab"], End::Boundary, "YWI=\r\n"),
            (&[b"ab"], End::Message, "YWINCg==\r\n"),
            (&[b"a", b"", b"c"], End::Boundary, "YQ0KDQpj\r\n"),
            (&[b""], End::Boundary, ""),
            (&[], End::Message, ""),
        ];
        for (lines, end, wanted) in cases {
            assert_eq!(written(Encoder::base64(), lines, end), wanted, "{lines:?}");
        }
        let long = written(Encoder::base64(), &[&[0xff; 171]], End::Boundary);
        assert_eq!(long, format!("{0}\r\n{0}\r\n{0}\r\n", "/".repeat(76)));
    }

    #[test]
    fn what_is_encoded_already_is_mended() {
        let mend = |line: &[u8]| {
            let encoder = Encoder::MendQuoted { column: 0, escape: 0 };
            written(encoder, &[line], End::Boundary)
        };
        assert_eq!(mend(b"a=20\xfc="), "a=20=FC=\r\n");
        let long = mend(&b"=41".repeat(1000));
        assert!(long.split("\r\n").all(|line| line.len() < 998), "{long}");
        assert_eq!(long.replace("=\r\n", ""), format!("{}\r\n", "=41".repeat(1000)));
        let base64 = Encoder::MendBase64 { column: 0 };
        let long = written(base64, &[&b"QUJ\xff".repeat(500)], End::Boundary);
        assert!(long.split("\r\n").all(|line| line.len() < 998), "{long}");
        assert_eq!(long.replace("\r\n", ""), "QUJ".repeat(500));
        let unread = Encoder::Unread { column: 0 };
        let text = written(unread, &[&[0xfc; 2000], b"x"], End::Boundary);
        assert_eq!(text, format!("{}\r\nx\r\n", "?".repeat(KEPT)));
    }
}
