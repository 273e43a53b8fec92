//! The head of a message: its fields.
//!
//! A head is the lines in front of the first empty line. A message whose first line is no field has none: it is a body
//! only. Lines in a head that are neither field nor continuation mean nothing and do not end it. Transports see it in the
//! same way, so whoever is named in a Bcc gets the message and is not named in it.

/// The fields of a head, each with its name and its value, folded as it is.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Those of a message.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let has_head = message.split_inclusive(|b| *b == b'\n').next().is_some_and(is_field);
        Self { rest: if has_head { message } else { &[] } }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let whole = self.rest;
            let mut lines = whole.split_inclusive(|b| *b == b'\n');
            let first = lines.next().filter(|line| !matches!(line, [b'\n'] | [b'\r', b'\n']))?;
            let folded = lines.take_while(|line| matches!(line[0], b' ' | b'\t'));
            let length = first.len() + folded.map(<[u8]>::len).sum::<usize>();
            self.rest = &whole[length..];
            if let Some(colon) = colon_of(first) {
                return Some((first[..colon].trim_ascii_end(), &whole[colon + 1..length]));
            }
        }
    }
}

/// Fields that a head has and prose has not.
const KNOWN: [&str; 16] = [
    "from",
    "to",
    "cc",
    "bcc",
    "subject",
    "date",
    "message-id",
    "sender",
    "reply-to",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "received",
    "return-path",
    "resent-to",
];

/// Whether a text begins with a head. A line of prose may look like a field ("Note: …"): only one that begins with a
/// known field is a head in any case, any other must be whole, end with an empty line, and have a known field in it.
pub(crate) fn has_head(text: &[u8]) -> bool {
    let is_empty = |line: &&[u8]| matches!(line, [b'\n'] | [b'\r', b'\n']);
    let known = |line: &[u8]| {
        let name = colon_of(line).map(|colon| line[..colon].trim_ascii_end());
        name.is_some_and(|name| KNOWN.iter().any(|k| name.eq_ignore_ascii_case(k.as_bytes())))
    };
    let mut lines = text.split_inclusive(|b| *b == b'\n').peekable();
    if lines.peek().is_some_and(|first| is_empty(first) || known(first)) {
        return true;
    }
    let mut found = false;
    for line in lines {
        if is_empty(&line) {
            return found;
        }
        if !matches!(line[0], b' ' | b'\t') && !is_field(line) {
            return false;
        }
        found |= known(line);
    }
    false
}

/// How the lines of a message end, by its first one.
pub(crate) fn line_end(message: &[u8]) -> &'static str {
    let first = message.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
    if first.ends_with(b"\r\n") { "\r\n" } else { "\n" }
}

/// Whether a message has to get an empty line behind fields that are put in front of it.
pub(crate) fn is_body_only(message: &[u8]) -> bool {
    let first = message.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
    !is_field(first) && !matches!(first, [b'\n'] | [b'\r', b'\n'])
}

fn is_field(line: &[u8]) -> bool {
    colon_of(line).is_some()
}

/// Where the colon behind a field's name is.
fn colon_of(line: &[u8]) -> Option<usize> {
    let in_name = |b: &u8| matches!(b, 33..=126) && *b != b':';
    let name = line.iter().take_while(|b| in_name(b)).count();
    let blanks = line[name..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    (name > 0 && line.get(name + blanks) == Some(&b':')).then_some(name + blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Fields::of(message.as_bytes()).map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn fields_are_found_up_to_the_empty_line() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("A: 1\nB : 2\n\t3\n\nC: 4\n", &[("A", " 1\n"), ("B", " 2\n\t3\n")]),
            ("A:1\r\nodd line\r\n folded\r\nB:\r\n\r\nC: 4", &[("A", "1\r\n"), ("B", "\r\n")]),
            ("A: no end", &[("A", " no end")]),
            ("\nA: body", &[]),
            ("\r\nA: body", &[]),
            ("odd line\nA: body", &[]),
            (" folded\nA: body", &[]),
            (":\nA: body", &[]),
            ("", &[]),
        ];
        for (message, wanted) in cases {
            let wanted: Vec<_> =
                wanted.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(fields(message), wanted, "{message:?}");
        }
    }

    #[test]
    fn a_body_gets_an_empty_line() {
        for (message, only) in
            [("A: 1\n", false), ("\nx", false), ("\r\n", false), ("", true), ("x", true)]
        {
            assert_eq!(is_body_only(message.as_bytes()), only, "{message:?}");
        }
        assert_eq!(line_end(b"A: 1\r\nB"), "\r\n");
        assert_eq!(line_end(b"A: 1"), "\n");
    }

    #[test]
    fn prose_is_no_head() {
        let prose = [
            "",
            "hello",
            "Note: this is prose",
            "ERROR: backup failed\nFrom: disk 3\nTo: tape@example.org\nsee log\n",
            "http://example.org is\nmy page\n",
            "Note: one\n\nTo: a@b\n",
        ];
        for text in prose {
            assert!(!has_head(text.as_bytes()), "{text:?}");
        }
        let heads = [
            "\nbody",
            "To: a@b\n",
            "subject:x\nnot a field\n\nbody",
            "X-Odd: 1\nTo: a@b\n folded\n\nbody",
            "X-Odd: 1\r\nTo: a@b\r\n\r\nbody",
        ];
        for text in heads {
            assert!(has_head(text.as_bytes()), "{text:?}");
        }
    }
}
