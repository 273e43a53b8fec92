//! Messages for servers that take less: what comes out is fit, and says no more than what went in.

use sundown_mail::bcc;
use sundown_mail::head::Fields;
use sundown_mail::transfer::{Bodies, Converter, Facts, Head, Scanner, Sealed, Wanted};

const SEVEN: Wanted = Wanted { bodies: Bodies::SevenBit, head: Head::Ascii };

/// Bytes as a message whose Bcc is removed, for a server without 8BITMIME and SMTPUTF8.
pub fn transfer(bytes: &[u8]) {
    let message = bcc::without(bytes);
    let facts = facts(&message);
    let once = converted(&message, &facts, SEVEN, message.len());
    for cut in [1, 7] {
        assert_eq!(converted(&message, &facts, SEVEN, cut), once, "pieces make a difference");
    }
    assert!(once.is_empty() || once.ends_with(b"\r\n"), "the last line has no end");
    for line in once.split(|byte| *byte == b'\n').rev().skip(1) {
        let text = line.strip_suffix(b"\r").expect("a line ends with CRLF");
        assert!(!text.contains(&b'\r'), "a CR alone");
    }
    assert!(!Fields::of(&once).any(|field| field.is_hidden()), "a Bcc came up");
    if facts.sealed == Sealed::Nothing {
        assert!(once.is_ascii(), "bytes beyond ASCII are left");
        let again = converted(&once, &self::facts(&once), SEVEN, once.len());
        assert_eq!(again, once, "it is converted again");
    }
}

fn facts(message: &[u8]) -> Facts {
    let mut scanner = Scanner::default();
    scanner.feed(message);
    scanner.finish()
}

fn converted(message: &[u8], facts: &Facts, wanted: Wanted, cut: usize) -> Vec<u8> {
    let (mut converter, mut out) = (Converter::new(facts.clone(), wanted), Vec::new());
    for piece in message.chunks(cut.max(1)) {
        converter.feed(piece, &mut out);
    }
    converter.finish(&mut out);
    out
}
