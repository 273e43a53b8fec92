//! A From field with somebody's full name.

/// The value of a From field: a name as RFC 5322 wants it quoted or RFC 2047 encoded, and an address.
pub(crate) fn from_field(name: &str, address: &str) -> String {
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
            assert_eq!(from_field(name, "a@b"), wanted, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_into_words_that_fit() {
        for name in ["ü€x𝄞 ".repeat(100), "x".repeat(1000)] {
            let field = from_field(&name, "a@b");
            assert!(field.split(' ').all(|word| word.len() <= 75), "{field}");
        }
    }
}
