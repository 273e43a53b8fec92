//! An address with a person's full name in front, as a From field has it.

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

/// Quoted, a name cannot be folded; encoded, it can.
const LONG: usize = 200;

/// As many bytes of a name in one encoded word as fit into 75 characters, each as `=XX`.
const IN_WORD: usize = 20;

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
fn encoded(name: &str) -> String {
    let mut words = vec![String::new()];
    let mut room = IN_WORD;
    for c in name.chars() {
        if c.len_utf8() > room {
            words.push(String::new());
            room = IN_WORD;
        }
        room -= c.len_utf8();
        let word = words.last_mut().expect("there is a first word");
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            match byte {
                b' ' => word.push('_'),
                byte if byte.is_ascii_alphanumeric() => word.push(char::from(byte)),
                byte => word.push_str(&format!("={byte:02X}")),
            }
        }
    }
    let words: Vec<_> = words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect();
    words.join(" ")
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
        // As many characters as fit are in one word.
        let field = with_address(&"ü".repeat(IN_WORD / 2), "a@b");
        assert_eq!(field.matches("=?").count(), 1, "{field}");
    }
}
