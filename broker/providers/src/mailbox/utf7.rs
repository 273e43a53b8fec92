//! Folder names in modified UTF-7 (RFC 3501, section 5.1.3), as Dovecot and Courier name the directories of a Maildir.
//!
//! `.` separates the parts of a name and `/` the parts of a path, so a part that contains one of them has it in base64, as Courier
//! writes it.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Whether a character stands for itself in the name of a directory.
fn is_direct_in_directory(c: char) -> bool {
    is_direct(c) && !matches!(c, '.' | '/')
}

/// Whether a character stands for itself.
fn is_direct(c: char) -> bool {
    matches!(c, ' '..='~') && c != '&'
}

/// A part of a folder's name as a server has it: whatever can stand for itself does.
pub(crate) fn encode_word(part: &str) -> String {
    encoded(part, is_direct)
}

/// The name of a part in a directory's name: printable ASCII without `.` and `/`.
pub(crate) fn encode(part: &str) -> String {
    encoded(part, is_direct_in_directory)
}

fn encoded(part: &str, is_direct: fn(char) -> bool) -> String {
    let mut encoded = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(first) = rest.chars().next() {
        let direct = rest.find(|c| !is_direct(c)).unwrap_or(rest.len());
        encoded.push_str(&rest[..direct]);
        rest = &rest[direct..];
        if direct == 0 && first == '&' {
            encoded.push_str("&-");
            rest = &rest[1..];
        } else if direct == 0 {
            let end = rest.find(|c| is_direct(c) || c == '&').unwrap_or(rest.len());
            let units: Vec<u8> = rest[..end].encode_utf16().flat_map(u16::to_be_bytes).collect();
            encoded.push('&');
            BASE64.encode_string(units, &mut encoded);
            encoded.push('-');
            rest = &rest[end..];
        }
    }
    encoded
}

/// What a part of a directory's name says, or nothing if it is not modified UTF-7 or has control characters. Characters in base64
/// that could stand for themselves are accepted, so two names may say the same.
pub(crate) fn decode(part: &[u8]) -> Option<String> {
    let mut rest = std::str::from_utf8(part).ok()?;
    if !rest.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let mut decoded = String::with_capacity(rest.len());
    while let Some((direct, shifted)) = rest.split_once('&') {
        decoded.push_str(direct);
        let (encoded, after) = shifted.split_once('-')?;
        if encoded.is_empty() {
            decoded.push('&');
        } else {
            let bytes = BASE64.decode(encoded).ok().filter(|bytes| bytes.len() % 2 == 0)?;
            let units = bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            for c in char::decode_utf16(units) {
                decoded.push(c.ok().filter(|c| !c.is_control())?);
            }
        }
        rest = after;
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The names that Dovecot and Courier have for these, and the example of RFC 3501.
    #[test]
    fn names_are_those_of_other_programs() {
        for (shown, name) in [
            ("Sent", "Sent"),
            ("R&D", "R&-D"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("Gel&öscht", "Gel&-&APY-scht"),
            ("台北", "&U,BTFw-"),
            ("日本語", "&ZeVnLIqe-"),
            ("😀", "&2D3eAA-"),
            ("v1.2", "v1&AC4-2"),
            ("a/b", "a&AC8-b"),
            ("..", "&AC4ALg-"),
            ("&", "&-"),
            ("-", "-"),
            ("", ""),
        ] {
            assert_eq!(encode(shown), name);
            assert_eq!(decode(name.as_bytes()).as_deref(), Some(shown));
        }
    }

    #[test]
    fn what_is_not_modified_utf_7_says_nothing() {
        let texts = [
            "R&D", "&", "&AP", "&A-", "&AP-", "&APx-", "&2D0-", "&3gDYPQ-", "&AAo-", "&=-",
            "&AP w-",
        ];
        for text in texts {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        for bytes in [&b"\xfc"[..], "ü".as_bytes(), b"a\nb", b"\x7f"] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_word_comes_back(part in "\\PC*") {
            prop_assert_eq!(decode(encode_word(&part).as_bytes()), Some(part));
        }

        #[test]
        fn every_name_comes_back(part in "\\PC*") {
            let encoded = encode(&part);
            prop_assert!(encoded.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'.' && b != b'/'));
            prop_assert_eq!(decode(encoded.as_bytes()), Some(part));
        }

        /// Names that say the same may differ; what is encoded again says the same.
        #[test]
        fn what_can_be_decoded_can_be_encoded(name in "([ -~]|&[A-Za-z0-9+,]{2,8}-){0,12}") {
            if let Some(part) = decode(name.as_bytes()) {
                prop_assert_eq!(decode(encode(&part).as_bytes()), Some(part));
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(part) = decode(&bytes) {
                prop_assert!(!part.contains(char::is_control));
            }
        }
    }
}
