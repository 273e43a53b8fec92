//! Text of people in fields: an address with a full name in front, as a From field has it, and text without structure, as Subject has
//! it. What is not ASCII is in encoded words of RFC 2047, in UTF-8.

/// The name, quoted as in RFC 5322 or encoded as in RFC 2047, and the address in angle brackets; the address alone, if there
/// is no name. Control characters are left out.
///
/// ```
/// use sundown_mail::name::with_address;
///
/// assert_eq!(with_address("Anna Smith", "a@b"), "\"Anna Smith\" <a@b>");
/// assert_eq!(with_address("J\u{fc}rgen", "j@b"), "=?utf-8?q?J=C3=BCrgen?= <j@b>");
/// ```
pub fn with_address(name: &str, address: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    match name.trim() {
        "" => address.to_owned(),
        name if name.is_ascii() && name.len() < LONG => format!("{} <{address}>", quoted(name)),
        name => format!("{} <{address}>", encoded(name)),
    }
}

/// A text without structure for a field: as it is, or encoded if it has characters beyond ASCII, something that would be taken for an
/// encoded word, or a word that is too long for a line. Control characters become blanks.
///
/// ```
/// use sundown_mail::name::text;
///
/// assert_eq!(text("A subject"), "A subject");
/// assert_eq!(text("Pr\u{fc}fung"), "=?utf-8?q?Pr=C3=BCfung?=");
/// assert_eq!(text("=?x"), "=?utf-8?q?=3D=3Fx?=");
/// ```
pub fn text(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let fits = text.split(' ').all(|word| word.len() < LONG);
    if text.is_ascii() && fits && !text.contains("=?") { text } else { encoded(text.trim()) }
}

/// What is longer is encoded: it may have no blank to fold it at.
const LONG: usize = 200;

/// As many characters of one encoded word as leave room, in a line of 76, for what encloses them and for the name of a field.
const IN_WORD: usize = 48;

fn quoted(name: &str) -> String {
    let mut quoted = String::from("\"");
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

/// Encoded words with a space between them, which belongs to none. Each holds whole characters.
fn encoded(text: &str) -> String {
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut bytes = [0; 4];
        let one: String = c.encode_utf8(&mut bytes).bytes().map(in_word).collect();
        if words.last().is_some_and(|word| word.len() + one.len() > IN_WORD) {
            words.push(String::new());
        }
        words.last_mut().expect("there is a first word").push_str(&one);
    }
    let words: Vec<_> = words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect();
    words.join(" ")
}

/// A byte in an encoded word, in a way that is right in names, too.
fn in_word(byte: u8) -> String {
    match byte {
        b' ' => "_".to_owned(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("={byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_or_encoded() {
        let cases = [
            ("Anna Smith", "\"Anna Smith\" <a@b>"),
            ("A \"B\" \\ C, D", "\"A \\\"B\\\" \\\\ C, D\" <a@b>"),
            ("Jürgen Ö", "=?utf-8?q?J=C3=BCrgen_=C3=96?= <a@b>"),
            ("evil\r\nBcc: x@y", "\"evilBcc: x@y\" <a@b>"),
            ("  ", "a@b"),
            ("", "a@b"),
        ];
        for (name, wanted) in cases {
            assert_eq!(with_address(name, "a@b"), wanted, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_into_words_that_fit() {
        for name in ["ü€x𝄞 ".repeat(100), "x".repeat(1000)] {
            let field = with_address(&name, "a@b");
            assert!(field.split(' ').all(|word| word.len() <= 75), "{field}");
        }
        let name = "x".repeat(LONG - 1);
        assert_eq!(with_address(&name, "a@b"), format!("\"{name}\" <a@b>"));
        assert!(with_address(&format!("{name}x"), "a@b").starts_with("=?"));
        // As many characters as fit are in one word.
        let field = with_address(&"ü".repeat(IN_WORD / 6), "a@b");
        assert_eq!(field.matches("=?").count(), 1, "{field}");
    }

    #[test]
    fn texts_are_encoded_where_they_must_be() {
        let long = "x".repeat(LONG);
        let cases = [
            ("", ""),
            ("a  b: (c) \"d\"", "a  b: (c) \"d\""),
            ("a\r\nBcc: b\0", "a  Bcc: b "),
            ("ä b", "=?utf-8?q?=C3=A4_b?="),
            ("€\u{85}", "=?utf-8?q?=E2=82=AC?="),
        ];
        for (plain, wanted) in cases {
            assert_eq!(text(plain), wanted, "{plain:?}");
        }
        for one in ["=?utf-8?q?x?=", &long, &format!("a {long}")] {
            assert!(text(one).split(' ').all(|word| word.starts_with("=?") && word.len() <= 60));
        }
    }
}
