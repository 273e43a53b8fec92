//! Reads the words of a response, whatever they are.
//!
//! A server may send items that are not read here, with values of any shape, and items that it should not: a reader takes what it
//! wants and passes over the rest, a value at a time.

use std::borrow::Cow;

/// What cannot be read as words: the rest of the response is lost, and the next one is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

/// The most items that a list may have, so that what is made of a response is not many times as large: servers list some dozens.
pub(super) const MOST_ITEMS: usize = 4096;

/// The result of reading words.
pub type Read<T> = Result<T, Garbled>;

/// The rest of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Everything that is left, as it came.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Passes over spaces, of which some servers send too many.
    pub(super) fn spaces(&mut self) {
        let spaces = self.rest.iter().take_while(|b| **b == b' ').count();
        self.rest = &self.rest[spaces..];
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&mut self) -> bool {
        self.spaces();
        self.rest.is_empty()
    }

    /// Takes this byte if it comes next.
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        self.spaces();
        self.takes_here(byte)
    }

    fn takes_here(&mut self, byte: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[byte]) else { return false };
        self.rest = rest;
        true
    }

    /// A word.
    pub(super) fn word(&mut self) -> Read<&'a [u8]> {
        self.spaces();
        let end = self.rest.iter().position(|b| ends_word(*b)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(Garbled);
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word)
    }

    /// The name of an item, with its section, as `BODY[HEADER.FIELDS (DATE)]<0>`.
    pub(super) fn item(&mut self) -> Read<&'a [u8]> {
        self.spaces();
        let whole = self.rest;
        let mut end = 0;
        while let Some(byte) = whole.get(end).filter(|b| !ends_word(**b)) {
            end += if *byte == b'[' { section(&whole[end..]).ok_or(Garbled)? } else { 1 };
        }
        if end == 0 {
            return Err(Garbled);
        }
        self.rest = &whole[end..];
        Ok(&whole[..end])
    }

    /// What is in the brackets that come next.
    pub(super) fn bracketed(&mut self) -> Read<Self> {
        let length = section(self.rest).filter(|_| self.rest.starts_with(b"[")).ok_or(Garbled)?;
        let (whole, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Self::new(&whole[1..length - 1]))
    }

    /// A text in quotes, a literal, or a word; nothing for `NIL`.
    pub(super) fn text(&mut self) -> Read<Option<Cow<'a, [u8]>>> {
        self.spaces();
        match self.rest.first() {
            Some(b'"') => self.quoted().map(Some),
            Some(b'{' | b'~') => match self.literal()? {
                Some(literal) => Ok(Some(Cow::Borrowed(literal))),
                None => self.word().map(|word| Some(Cow::Borrowed(word))),
            },
            _ => {
                let word = self.word()?;
                Ok((!word.eq_ignore_ascii_case(b"NIL")).then_some(Cow::Borrowed(word)))
            }
        }
    }

    fn quoted(&mut self) -> Read<Cow<'a, [u8]>> {
        let inside = &self.rest[1..];
        let plain = inside.iter().position(|b| matches!(b, b'"' | b'\\')).ok_or(Garbled)?;
        if inside[plain] == b'"' {
            self.rest = &inside[plain + 1..];
            return Ok(Cow::Borrowed(&inside[..plain]));
        }
        let (mut text, mut at) = (inside[..plain].to_vec(), plain);
        loop {
            match inside.get(at) {
                Some(b'"') => break,
                // Where a server forgets to double a backslash, it stands for itself.
                Some(b'\\') if matches!(inside.get(at + 1), Some(b'"' | b'\\')) => {
                    text.push(inside[at + 1]);
                    at += 2;
                }
                Some(byte) => {
                    text.push(*byte);
                    at += 1;
                }
                None => return Err(Garbled),
            }
        }
        self.rest = &inside[at + 1..];
        Ok(Cow::Owned(text))
    }

    /// A literal. Nothing if what comes next only begins like one.
    fn literal(&mut self) -> Read<Option<&'a [u8]>> {
        let head = self.rest.strip_prefix(b"~").unwrap_or(self.rest);
        let Some(head) = head.strip_prefix(b"{") else { return Ok(None) };
        let digits = head.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, head) = head.split_at(digits);
        let Some(head) = head.strip_prefix(b"+").unwrap_or(head).strip_prefix(b"}") else {
            return Ok(None);
        };
        let head = head.strip_prefix(b"\r").unwrap_or(head);
        let Some(bytes) = head.strip_prefix(b"\n") else { return Ok(None) };
        let length: usize =
            number_of(digits).and_then(|n| usize::try_from(n).ok()).ok_or(Garbled)?;
        let literal = bytes.get(..length).ok_or(Garbled)?;
        self.rest = &bytes[length..];
        Ok(Some(literal))
    }

    /// A number.
    pub(super) fn number(&mut self) -> Read<u64> {
        number_of(self.word()?).ok_or(Garbled)
    }

    /// A number that messages, their order and their validity have.
    pub(super) fn number32(&mut self) -> Read<u32> {
        u32::try_from(self.number()?).map_err(|_| Garbled)
    }

    /// The words of a list in parentheses. Lists in it are passed over.
    pub(super) fn list(&mut self) -> Read<Vec<Cow<'a, [u8]>>> {
        let mut words = Vec::new();
        self.each(|list| {
            if list.rest.starts_with(b"(") {
                list.skip()
            } else {
                words.extend(list.text()?);
                Ok(())
            }
        })?;
        Ok(words)
    }

    /// Reads a list in parentheses, one item after the other. The function takes at least something each time.
    pub(super) fn each(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if !self.takes(b'(') {
            return Err(Garbled);
        }
        for _ in 0..=MOST_ITEMS {
            self.spaces();
            if self.takes_here(b')') {
                return Ok(());
            }
            let before = self.rest.len();
            item(self)?;
            if self.rest.len() == before {
                return Err(Garbled);
            }
        }
        Err(Garbled)
    }

    /// Passes over a value of any shape.
    pub(super) fn skip(&mut self) -> Read<()> {
        let mut depth = 0_usize;
        loop {
            self.spaces();
            if self.takes_here(b'(') {
                depth += 1;
            } else if depth > 0 && self.takes_here(b')') {
                depth -= 1;
            } else {
                self.text()?;
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'(' | b')' | b'"' | b'\r' | b'\n')
}

/// The length of a section in brackets, in which there may be texts in quotes.
fn section(from: &[u8]) -> Option<usize> {
    let (mut depth, mut is_quoted, mut at) = (0_usize, false, 0);
    loop {
        match from.get(at)? {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b'[' if !is_quoted => depth += 1,
            b']' if !is_quoted => depth = depth.saturating_sub(1),
            b'\r' | b'\n' => return None,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// A number without a sign. Those that servers send have 63 bits.
pub(super) fn number_of(digits: &[u8]) -> Option<u64> {
    let are_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| are_digits)?;
    digits.parse().ok().filter(|number: &u64| i64::try_from(*number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &str) -> Read<Vec<Option<String>>> {
        let (mut words, mut found) = (Words::new(words.as_bytes()), Vec::new());
        while !words.is_empty() {
            found.push(words.text()?.map(|text| String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(found)
    }

    #[test]
    fn texts_have_three_forms() {
        let cases: [(&str, &[Option<&str>]); 9] = [
            ("a  \"b c\" {3}\r\nd e", &[Some("a"), Some("b c"), Some("d e")]),
            ("NIL nil \"NIL\" {3}\r\nNIL", &[None, None, Some("NIL"), Some("NIL")]),
            (r#""a\"b" "a\\" "a\b""#, &[Some("a\"b"), Some("a\\"), Some("a\\b")]),
            ("\"\" {0}\r\n", &[Some(""), Some("")]),
            (
                "~{2+}\r\n\r\n~x {y {1} {2}z",
                &[Some("\r\n"), Some("~x"), Some("{y"), Some("{1}"), Some("{2}z")],
            ),
            ("[Gmail]/a a[b c]", &[Some("[Gmail]/a"), Some("a[b"), Some("c]")]),
            (r"\Seen \* $Forwarded", &[Some(r"\Seen"), Some(r"\*"), Some("$Forwarded")]),
            ("{3}\nabc", &[Some("abc")]),
            ("", &[]),
        ];
        for (words, wanted) in cases {
            let wanted = wanted.iter().map(|text| text.map(str::to_owned)).collect();
            assert_eq!(texts(words), Ok(wanted), "{words:?}");
        }
        for words in
            ["\"a", "\"a\\\"", "{4}\r\nabc", "{}\r\n", "(", ")", "{99999999999999999999}\r\n"]
        {
            assert_eq!(texts(words), Err(Garbled), "{words:?}");
        }
    }

    #[test]
    fn any_value_is_passed_over() {
        for value in ["x", "\"x )\"", "(a (b \"c(\") NIL ({1}\r\n)))", "()"] {
            let all = format!("{value} next");
            let mut words = Words::new(all.as_bytes());
            assert_eq!(words.skip(), Ok(()), "{value}");
            assert_eq!(words.word(), Ok(&b"next"[..]), "{value}");
        }
        for value in ["", "(a", ")", "(a \"b)"] {
            assert_eq!(Words::new(value.as_bytes()).skip(), Err(Garbled), "{value}");
        }
        let deep = "(".repeat(1 << 20) + &")".repeat(1 << 20);
        assert_eq!(Words::new(deep.as_bytes()).skip(), Ok(()));
    }

    #[test]
    fn an_item_has_its_section() {
        for item in [
            "UID",
            "BODY[]",
            "BODY[1.MIME]<0>",
            "BODY[HEADER.FIELDS (DATE \"]\\\"\")]<0>",
            "X[[a] b]c",
        ] {
            let all = format!(" {item} NIL");
            let mut words = Words::new(all.as_bytes());
            assert_eq!(words.item(), Ok(item.as_bytes()));
            assert_eq!(words.rest(), b" NIL");
        }
        for item in ["", "BODY[", "BODY[\"]", "(", "BODY[a\r\n]"] {
            assert_eq!(Words::new(item.as_bytes()).item(), Err(Garbled), "{item:?}");
        }
        let mut words = Words::new(b"[A \"]\" (b)] words");
        assert_eq!(words.bracketed(), Ok(Words::new(b"A \"]\" (b)")));
        assert_eq!((words.rest(), words.bracketed()), (&b" words"[..], Err(Garbled)));
    }

    #[test]
    fn numbers_have_63_bits_and_no_sign() {
        let number = |text: &str| Words::new(text.as_bytes()).number();
        assert_eq!((number("0"), number("007")), (Ok(0), Ok(7)));
        assert_eq!(number("9223372036854775807"), Ok(i64::MAX as u64));
        for text in ["9223372036854775808", "-1", "+1", "1x", ""] {
            assert_eq!(number(text), Err(Garbled), "{text}");
        }
        assert_eq!(Words::new(b"4294967296").number32(), Err(Garbled));
    }

    #[test]
    fn lists_in_lists_are_passed_over() {
        let list = |text: &str| {
            let words = Words::new(text.as_bytes()).list()?;
            Ok(words
                .iter()
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect::<Vec<_>>())
        };
        assert_eq!(list("( a (b c)  \"d\" NIL )"), Ok(vec!["a".into(), "d".into()]));
        assert_eq!(list("()"), Ok(Vec::new()));
        assert_eq!((list("a"), list("(a")), (Err(Garbled), Err(Garbled)));
        let of = |count| list(&format!("({})", "a ".repeat(count))).map(|words| words.len());
        assert_eq!((of(MOST_ITEMS), of(MOST_ITEMS + 1)), (Ok(MOST_ITEMS), Err(Garbled)));
    }
}
