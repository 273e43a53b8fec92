//! One field of a head in ASCII (RFC 2047, RFC 2231).

use std::borrow::Cow;

use crate::address::domain_to_ascii;

/// The most bytes in one encoded word, each as `=XX`, that fit into 75 characters with the longest charset.
const IN_WORD: usize = 18;

/// Fields that hold addresses. Of others the whole value is text, or has parameters.
const ADDRESSES: [&str; 13] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "resent-from",
    "resent-sender",
    "resent-reply-to",
    "resent-to",
    "resent-cc",
    "mail-followup-to",
    "disposition-notification-to",
];

/// The name of a field, in lower case.
pub(super) fn name(field: &[u8]) -> String {
    let name = field.split(|byte| *byte == b':').next().unwrap_or_default();
    String::from_utf8_lossy(name).trim_end().to_ascii_lowercase()
}

/// The value of a field in one line, without its line end.
pub(super) fn value(field: &[u8]) -> Vec<u8> {
    let colon = field.iter().position(|byte| *byte == b':').map_or(field.len(), |at| at + 1);
    field[colon..].iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
}

/// A field in ASCII, folded and without its last line end.
pub(super) fn in_ascii(field: &[u8]) -> Vec<u8> {
    let (lower, value) = (name(field), value(field));
    let colon = field.iter().position(|byte| *byte == b':').map_or(field.len(), |at| at + 1);
    let mut out: Vec<u8> = field[..colon].to_vec();
    if ADDRESSES.contains(&lower.as_str()) {
        out.extend(addresses(&value));
    } else if matches!(lower.as_str(), "content-type" | "content-disposition") {
        out.extend(parameters(&value));
    } else {
        // Its folds stay.
        out.extend(text(field[colon..].trim_ascii_end()));
    }
    out
}

/// Runs of words with characters beyond ASCII as encoded words; what is between them stays. Readers drop blanks between two
/// encoded words, so one that is beside a word that was encoded before is encoded with the run.
fn text(value: &[u8]) -> Vec<u8> {
    let (mut out, mut run, mut blanks) = (Vec::new(), Vec::new(), Vec::new());
    let mut before: &[u8] = b"";
    for piece in value.chunk_by(|a, b| is_blank(*a) == is_blank(*b)) {
        if is_blank(piece[0]) {
            blanks.extend_from_slice(piece);
            continue;
        }
        if piece.is_ascii() {
            if !run.is_empty() && is_encoded(piece) {
                run.push(b' ');
            }
            flush(&mut run, &mut out);
            out.append(&mut blanks);
            out.extend_from_slice(piece);
        } else {
            if run.is_empty() {
                out.append(&mut blanks);
                run.extend(is_encoded(before).then_some(b' '));
            }
            run.append(&mut blanks);
            run.extend_from_slice(piece);
        }
        before = piece;
    }
    flush(&mut run, &mut out);
    out.append(&mut blanks);
    out
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_encoded(word: &[u8]) -> bool {
    word.starts_with(b"=?") && word.ends_with(b"?=")
}

fn flush(run: &mut Vec<u8>, out: &mut Vec<u8>) {
    run.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    if !run.is_empty() {
        out.extend(words(run));
        run.clear();
    }
}

/// Encoded words, each in a line of its own, of whole characters.
fn words(text: &[u8]) -> Vec<u8> {
    let (charset, characters): (_, Vec<&[u8]>) = match std::str::from_utf8(text) {
        Ok(text) => ("utf-8", text.split_inclusive(|_: char| true).map(str::as_bytes).collect()),
        Err(_) => ("unknown-8bit", text.chunks(1).collect()),
    };
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut room = 0;
    for character in characters {
        if character.len() > room {
            words.push(Vec::new());
            room = IN_WORD;
        }
        room -= character.len();
        let word = words.last_mut().expect("one was begun");
        for byte in character {
            match byte {
                b' ' => word.push(b'_'),
                byte if byte.is_ascii_alphanumeric() => word.push(*byte),
                byte => word.extend(format!("={byte:02X}").bytes()),
            }
        }
    }
    let word = |word: &Vec<u8>| [format!("=?{charset}?q?").as_bytes(), word, b"?="].concat();
    words.iter().map(word).collect::<Vec<_>>().join(&b"\r\n "[..])
}

/// Names and comments as encoded words, domains in their ASCII form. An address without one becomes a group of that name and without
/// members, which people can read and no program writes to (RFC 6857, 3.1.8).
fn addresses(value: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), value);
    while let Some(&first) = rest.first() {
        let length = token(rest);
        let (token, behind) = rest.split_at(length);
        rest = behind;
        if token.is_ascii() {
            out.extend_from_slice(token);
            continue;
        }
        match first {
            b'"' if rest.first() == Some(&b'@') => {
                let end = rest.iter().position(|byte| b",;<( \t".contains(byte));
                let (domain, behind) = rest.split_at(end.unwrap_or(rest.len()));
                rest = behind;
                group(&[token, domain].concat(), &mut out);
            }
            b'"' => phrase(words(&unquoted(token)), rest, &mut out),
            b'(' => {
                out.push(b'(');
                out.extend(words(&unquoted(token)));
                out.push(b')');
            }
            _ if token.contains(&b'@') => match address(token) {
                Some(ascii) => out.extend(ascii),
                None => group(token, &mut out),
            },
            _ => phrase(text(token), rest, &mut out),
        }
    }
    out
}

fn group(address: &[u8], out: &mut Vec<u8>) {
    let address = address.trim_ascii();
    let inside = address.strip_prefix(b"<").and_then(|inside| inside.strip_suffix(b">"));
    if !out.last().is_some_and(|last| is_blank(*last)) {
        out.push(b' ');
    }
    out.extend(words(inside.unwrap_or(address)));
    out.extend_from_slice(b" :;");
}

/// Encoded words stand alone.
fn phrase(encoded: Vec<u8>, behind: &[u8], out: &mut Vec<u8>) {
    if out.last().is_some_and(|last| !matches!(last, b' ' | b'\t' | b',' | b':')) {
        out.push(b' ');
    }
    out.extend(encoded);
    let apart = out.last().is_some_and(|last| matches!(last, b' ' | b'\t'));
    if !apart && behind.first().is_some_and(|next| matches!(next, b'<' | b'"' | b'(')) {
        out.push(b' ');
    }
}

/// How long the next part of an address list is: a quoted text, a comment, an address in angle brackets, one of the
/// characters between, or what is up to the next of these.
fn token(text: &[u8]) -> usize {
    let close = match text[0] {
        b'"' => b'"',
        b'(' => b')',
        b'<' => b'>',
        b',' | b';' | b':' => return 1,
        _ => {
            let end = text.iter().position(|byte| b"\"(<,;:".contains(byte));
            return end.unwrap_or(text.len());
        }
    };
    let (mut depth, mut at) = (1, 1);
    while at < text.len() && depth > 0 {
        match text[at] {
            b'\\' => at += 1,
            byte if byte == close => depth -= 1,
            b'(' if close == b')' => depth += 1,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

/// What quotes or parentheses hold.
fn unquoted(token: &[u8]) -> Vec<u8> {
    let inside = &token[1..];
    let inside = inside.strip_suffix(b"\"").or(inside.strip_suffix(b")")).unwrap_or(inside);
    let (mut out, mut escaped) = (Vec::new(), false);
    for byte in inside {
        escaped = *byte == b'\\' && !escaped;
        if !escaped {
            out.push(*byte);
        }
    }
    out
}

fn address(token: &[u8]) -> Option<Vec<u8>> {
    let (mailbox, rest) = std::str::from_utf8(token).ok()?.rsplit_once('@')?;
    let end = rest.find(['>', ' ', '\t']).unwrap_or(rest.len());
    let (domain, behind) = rest.split_at(end);
    let domain = domain_to_ascii(domain)?;
    Some(format!("{mailbox}@{domain}{behind}").into_bytes()).filter(|ascii| ascii.is_ascii())
}

/// Values beyond ASCII as in RFC 2231.
fn parameters(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, part) in parts(value).enumerate() {
        if place > 0 {
            out.extend_from_slice(b";");
        }
        if part.is_ascii() {
            out.extend_from_slice(part);
            continue;
        }
        let Some(equals) = part.iter().position(|byte| *byte == b'=') else {
            out.extend(part.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
            continue;
        };
        out.extend_from_slice(b"\r\n ");
        out.extend(extended(part[..equals].trim_ascii(), part[equals + 1..].trim_ascii()));
    }
    out
}

/// The parameters of a value: their names, and their values without quotes.
pub(super) fn parameters_of(value: &[u8]) -> impl Iterator<Item = (&[u8], Vec<u8>)> {
    parts(value).skip(1).filter_map(|part| {
        let equals = part.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (part[..equals].trim_ascii(), part[equals + 1..].trim_ascii());
        let value = match value.first() {
            Some(b'"') => unquoted(&value[..token(value)]),
            _ => value.split(|byte| b" \t(".contains(byte)).next().unwrap_or_default().to_vec(),
        };
        Some((name, value))
    })
}

/// The parts of a value between semicolons that are not quoted.
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        let is_end = *byte == b';' && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    })
}

fn extended(name: &[u8], value: &[u8]) -> Vec<u8> {
    let value = match value.first() {
        Some(b'"') => Cow::Owned(unquoted(value)),
        _ => Cow::Borrowed(value),
    };
    let charset = if std::str::from_utf8(&value).is_ok() { "utf-8" } else { "unknown-8bit" };
    let mut out: Vec<u8> = name.iter().copied().filter(u8::is_ascii).collect();
    // It says already in what charset it is.
    let is_extended = out.ends_with(b"*");
    if !is_extended {
        out.push(b'*');
    }
    out.push(b'=');
    if !is_extended {
        out.extend(format!("{charset}''").bytes());
    }
    for byte in value.iter() {
        let plain = byte.is_ascii_alphanumeric()
            || b"-._".contains(byte)
            || is_extended && b"%'".contains(byte);
        if plain {
            out.push(*byte);
        } else {
            out.extend(format!("%{byte:02X}").bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(field: impl AsRef<[u8]>) -> String {
        String::from_utf8(in_ascii(field.as_ref())).expect("ASCII")
    }

    #[test]
    fn words_beyond_ascii_are_encoded_and_others_stay() {
        let cases: [(&[u8], &str); 6] = [
            (
                "S: \u{fc}\n =?utf-8?q?x?=\n y\n".as_bytes(),
                "S: =?utf-8?q?=C3=BC_?=\n =?utf-8?q?x?=\n y",
            ),
            ("Subject: a \u{fc} \u{e4} b\r\n".as_bytes(), "Subject: a =?utf-8?q?=C3=BC_=C3=A4?= b"),
            (b"Subject: Gr\xfc\xdfe", "Subject: =?unknown-8bit?q?Gr=FC=DFe?="),
            ("X:\u{fc}\n x".as_bytes(), "X:=?utf-8?q?=C3=BC?=\n x"),
            (
                "Comments: =?utf-8?q?x?= \u{fc}".as_bytes(),
                "Comments: =?utf-8?q?x?= =?utf-8?q?_=C3=BC?=",
            ),
            (b"Subject: plain", "Subject: plain"),
        ];
        for (field, wanted) in cases {
            assert_eq!(ascii(field), wanted);
        }
        let long = ascii(format!("Subject: {}", "\u{20ac}".repeat(500)));
        assert!(long.split("\r\n").all(|line| line.len() <= 76 + 9), "{long}");
    }

    #[test]
    fn of_addresses_only_names_and_comments_are_encoded() {
        let cases = [
            ("From: J\u{fc}rgen <j@b>", "From: =?utf-8?q?J=C3=BCrgen?= <j@b>"),
            ("From: \"J\u{fc}, \\\"x\\\"\"<j@b>", "From: =?utf-8?q?J=C3=BC=2C_=22x=22?= <j@b>"),
            (
                "To: a@b (\u{fc} (x)), \"c\" <d@e>",
                "To: a@b (=?utf-8?q?=C3=BC_=28x=29?=), \"c\" <d@e>",
            ),
            ("To: a@b\u{fc}cher.example, c@d", "To: a@xn--bcher-kva.example, c@d"),
            (
                "Cc: Ein \u{d6} <a@b\u{fc}cher.example>",
                "Cc: Ein =?utf-8?q?=C3=96?= <a@xn--bcher-kva.example>",
            ),
            ("To: G\u{fc}: a@b;", "To: =?utf-8?q?G=C3=BC?=: a@b;"),
        ];
        for (field, wanted) in cases {
            assert_eq!(ascii(field), wanted);
        }
    }

    #[test]
    fn an_address_beyond_ascii_is_left_to_read() {
        let group = "=?utf-8?q?j=C3=BC=40b?= :;";
        for (field, wanted) in [
            ("To: J <j\u{fc}@b>, c@d", format!("To: J {group}, c@d")),
            ("To: c@d, j\u{fc}@b", format!("To: c@d, {group}")),
            ("To: \"j\u{fc}\"@b, c@d", "To: =?utf-8?q?=22j=C3=BC=22=40b?= :;, c@d".to_owned()),
        ] {
            assert_eq!(ascii(field), wanted);
        }
        assert_eq!(ascii(b"From: <\xfc@b>"), "From: =?unknown-8bit?q?=FC=40b?= :;");
    }

    #[test]
    fn parameters_are_written_as_rfc_2231_says() {
        let cases: [(&[u8], &str); 3] = [
            (
                "Content-Type: text/plain; name=\"\u{fc};1.txt\"; x=y".as_bytes(),
                "Content-Type: text/plain;\r\n name*=utf-8''%C3%BC%3B1.txt; x=y",
            ),
            (
                b"Content-Disposition: attachment; filename=\xfc.txt",
                "Content-Disposition: attachment;\r\n filename*=unknown-8bit''%FC.txt",
            ),
            ("Content-Type: text/\u{fc}; a".as_bytes(), "Content-Type: text/??; a"),
        ];
        for (field, wanted) in cases {
            assert_eq!(ascii(field), wanted);
        }
    }
}
